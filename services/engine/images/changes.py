"""``--change`` of import and commit: Dockerfile instructions that only alter the configuration."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Sequence

import msgspec
from msgspec import UNSET

from services.engine.images.timestamps import parse_duration
from services.protocol.api.containers import Config, HealthConfig
from services.protocol.errors import InvalidParameter

_VARIABLE = re.compile(r"\$(\w+)|\$\{(\w+)\}")


def apply_changes(config: Config, changes: Sequence[str]) -> None:
    """Change *config* in place. Raises ``InvalidParameter`` ("RUN is not a valid change command")."""
    cmd_set = False
    for line in changes:
        name, _, rest = line.strip().partition(" ")
        instruction = _INSTRUCTIONS.get(name.lower())
        if instruction is None:
            raise InvalidParameter(f"{name} is not a valid change command")
        rest = rest.strip()
        if not rest:
            raise InvalidParameter(f"{name.upper()} requires at least one argument")
        instruction(config, rest)
        if name.lower() == "entrypoint" and not cmd_set:
            # A command belongs to the entrypoint it was written for.
            config.cmd = None
        cmd_set = cmd_set or name.lower() == "cmd"


def _json_list(text: str) -> list[str] | None:
    if not text.startswith("["):
        return None
    try:
        return msgspec.json.decode(text, type=list[str])
    except msgspec.MsgspecError:
        return None


def _command(config: Config, text: str) -> list[str]:
    parsed = _json_list(text)
    if parsed is not None:
        return parsed
    shell = list(config.shell) if isinstance(config.shell, list) else ["/bin/sh", "-c"]
    return [*shell, text]


def _expand(config: Config, text: str) -> str:
    """*text* as one word: variables replaced, quotes and escapes taken away."""
    return "".join(_scan(text, _environment(config), split=False))


def _environment(config: Config) -> dict[str, str]:
    return dict(item.partition("=")[::2] for item in config.env or [])


def _words(config: Config, text: str, name: str) -> list[str]:
    try:
        return _scan(text, _environment(config), split=True)
    except ValueError as error:
        raise InvalidParameter(f"{name}: {error}") from error


def _scan(text: str, env: dict[str, str], *, split: bool) -> list[str]:
    """Words of *text*: split first, then expanded, so that a value never becomes two words."""
    words, word, begun, at = [], "", False, 0
    while at < len(text):
        char = text[at]
        if split and char.isspace():
            if begun:
                words.append(word)
            word, begun, at = "", False, at + 1
            continue
        begun = True
        part, at = _part(text, at, env)
        word += part
    return [*words, word] if begun else words


def _part(text: str, at: int, env: dict[str, str]) -> tuple[str, int]:
    """One character, escape, variable or quoted string at *at*, and where it ends."""
    char = text[at]
    if char == "'":
        end = text.find("'", at + 1)
        if end < 0:
            raise ValueError("unexpected end of statement while looking for matching single-quote")
        return text[at + 1 : end], end + 1
    if char == '"':
        out, at = "", at + 1
        while at < len(text) and text[at] != '"':
            if text[at] == "\\" and text[at + 1 : at + 2] not in ('"', "$", "\\"):
                out, at = out + "\\", at + 1
                continue
            part, at = (text[at], at + 1) if text[at] == "'" else _part(text, at, env)
            out += part
        if at >= len(text):
            raise ValueError("unexpected end of statement while looking for matching double-quote")
        return out, at + 1
    if char == "\\" and at + 1 < len(text):
        return text[at + 1], at + 2
    if char == "$" and (match := _VARIABLE.match(text, at)) is not None:
        return env.get(match[1] or match[2], ""), match.end()
    return char, at + 1


def _pairs(config: Config, text: str, name: str) -> list[tuple[str, str]]:
    """``K=V ...`` or the old form ``K V``."""
    first = text.split(None, 1)
    if "=" not in first[0]:
        if len(first) < 2:
            raise InvalidParameter(f"{name} must have two arguments")
        return [(first[0], _expand(config, first[1]))]
    found: list[tuple[str, str]] = []
    for word in _words(config, text, name):
        key, equals, value = word.partition("=")
        if not equals:
            raise InvalidParameter(
                f'Syntax error - can\'t find = in "{word}". Must be of the form: name=value'
            )
        if not key:
            raise InvalidParameter(f"{name} names can not be blank")
        found.append((key, value))
    return found


def _env(config: Config, text: str) -> None:
    env = list(config.env or [])
    for key, value in _pairs(config, text, "ENV"):
        for at, item in enumerate(env):
            if item.partition("=")[0] == key:
                env[at] = f"{key}={value}"
                break
        else:
            env.append(f"{key}={value}")
    config.env = env


def _label(config: Config, text: str) -> None:
    config.labels = {**(config.labels or {}), **dict(_pairs(config, text, "LABEL"))}


def _cmd(config: Config, text: str) -> None:
    config.cmd = _command(config, text)


def _entrypoint(config: Config, text: str) -> None:
    config.entrypoint = _command(config, text)


def _expose(config: Config, text: str) -> None:
    ports = dict(config.exposed_ports) if isinstance(config.exposed_ports, dict) else {}
    for word in _words(config, text, "EXPOSE"):
        number, _, protocol = word.partition("/")
        protocol = protocol.lower() or "tcp"
        low, _, high = number.partition("-")
        if protocol not in ("tcp", "udp", "sctp"):
            raise InvalidParameter(f"Invalid proto: {protocol}")
        if (
            not low.isdigit()
            or (high and not high.isdigit())
            or int(high or low) > 65535
            or int(high or low) < int(low)
        ):
            raise InvalidParameter(f"Invalid containerPort: {number}")
        for port in range(int(low), int(high or low) + 1):
            ports[f"{port}/{protocol}"] = {}
    config.exposed_ports = ports


def _user(config: Config, text: str) -> None:
    config.user = _expand(config, text)


def _volume(config: Config, text: str) -> None:
    paths = _json_list(text)
    volumes = dict(config.volumes or {})
    for path in paths if paths is not None else _words(config, text, "VOLUME"):
        if not path.strip():
            raise InvalidParameter("VOLUME specified can not be an empty string")
        volumes[path.strip()] = {}
    config.volumes = volumes


def _workdir(config: Config, text: str) -> None:
    config.working_dir = posixpath.normpath(posixpath.join("/", config.working_dir, _expand(config, text)))


def _stop_signal(config: Config, text: str) -> None:
    config.stop_signal = _expand(config, text)


def _on_build(config: Config, text: str) -> None:
    trigger = text.split(None, 1)[0].upper()
    if trigger == "ONBUILD":
        raise InvalidParameter("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    if trigger in ("MAINTAINER", "FROM"):
        raise InvalidParameter(f"{trigger} isn't allowed as an ONBUILD trigger")
    existing = config.on_build if isinstance(config.on_build, list) else []
    config.on_build = [*existing, text]


_HEALTH_FLAGS = {"interval", "timeout", "start-period", "start-interval"}


def _healthcheck(config: Config, text: str) -> None:
    values: dict[str, int] = {}
    while text.startswith("--"):
        flag, _, text = text.partition(" ")
        name, _, value = flag.removeprefix("--").partition("=")
        text = text.strip()
        if name == "retries" and value.isdigit():
            values["retries"] = int(value)
        elif name in _HEALTH_FLAGS and (seconds := parse_duration(value)) is not None:
            values[name.replace("-", "_")] = int(seconds * 1e9)
        else:
            raise InvalidParameter(f"HEALTHCHECK: invalid flag {flag}")
    kind, _, rest = text.partition(" ")
    if kind.upper() == "NONE":
        config.healthcheck = HealthConfig(test=["NONE"])
        return
    if kind.upper() != "CMD" or not rest.strip():
        raise InvalidParameter(f'Unknown type "{kind.upper()}" in HEALTHCHECK (try CMD)')
    parsed = _json_list(rest.strip())
    test = ["CMD", *parsed] if parsed is not None else ["CMD-SHELL", rest.strip()]
    config.healthcheck = HealthConfig(
        test=test,
        interval=values.get("interval", UNSET),
        timeout=values.get("timeout", UNSET),
        start_period=values.get("start_period", UNSET),
        start_interval=values.get("start_interval", UNSET),
        retries=values.get("retries", UNSET),
    )


_INSTRUCTIONS: dict[str, Callable[[Config, str], None]] = {
    "cmd": _cmd,
    "entrypoint": _entrypoint,
    "env": _env,
    "expose": _expose,
    "healthcheck": _healthcheck,
    "label": _label,
    "onbuild": _on_build,
    "stopsignal": _stop_signal,
    "user": _user,
    "volume": _volume,
    "workdir": _workdir,
}
