"""Instructions that only change the configuration. Each returns the step's words for the history."""

from __future__ import annotations

import posixpath
from collections.abc import Callable

from services.engine.containers.mount_parse import clean
from services.engine.containers.values import go_quote
from services.engine.dockerfile.healthcheck import described, inherit
from services.engine.dockerfile.healthcheck import healthcheck as parse_healthcheck
from services.engine.dockerfile.instructions import Instruction
from services.engine.dockerfile.ports import exposed
from services.engine.dockerfile.target import Target
from services.engine.signals import parse as parse_signal
from services.protocol.api.containers import Config, HealthConfig
from services.protocol.errors import InvalidParameter

#: Expands a word with the variables of the step.
Expand = Callable[[str], str]


def env(state: Target, step: Instruction, expand: Expand) -> str:
    pairs = _pairs(step, expand)
    values = list(state.config.env or [])
    for name, value in pairs:
        item = f"{name}={value}"
        for index, existing in enumerate(values):
            if existing.partition("=")[0] == name:
                values[index] = item
                break
        else:
            values.append(item)
    state.config.env = values
    return "ENV " + " ".join(f"{name}={value}" for name, value in pairs)


def label(state: Target, step: Instruction, expand: Expand) -> str:
    pairs = _pairs(step, expand)
    state.config.labels = {**(state.config.labels or {}), **dict(pairs)}
    return "LABEL " + " ".join(f"{name}={value}" for name, value in pairs)


def _pairs(step: Instruction, expand: Expand) -> list[tuple[str, str]]:
    words = [expand(word) for word in step.args]
    return list(zip(words[::2], words[1::2], strict=True))


def maintainer(state: Target, step: Instruction, expand: Expand) -> str:
    state.author = step.args[0]
    return f"MAINTAINER {step.args[0]}"


def expose(state: Target, step: Instruction, expand: Expand) -> str:
    words = [part for word in step.args for part in expand(word).split()]
    ports = dict(state.config.exposed_ports) if isinstance(state.config.exposed_ports, dict) else {}
    for word in words:
        ports.update({port: {} for port in exposed(word)})
    state.config.exposed_ports = ports
    return "EXPOSE " + " ".join(words)


def user(state: Target, step: Instruction, expand: Expand) -> str:
    state.config.user = expand(step.args[0])
    return f"USER {state.config.user}"


def workdir(state: Target, step: Instruction, expand: Expand) -> str:
    path = expand(step.args[0])
    if not path:
        raise InvalidParameter("cannot normalize nothing")
    state.config.working_dir = clean(posixpath.join("/", state.config.working_dir, path))
    return f"WORKDIR {state.config.working_dir}"


def volume(state: Target, step: Instruction, expand: Expand) -> str:
    paths = [expand(word.strip()) for word in step.args]
    if not all(paths):
        raise InvalidParameter("VOLUME specified can not be an empty string")
    state.config.volumes = {**(state.config.volumes or {}), **{path: {} for path in paths}}
    return f"VOLUME [{' '.join(paths)}]"


def stopsignal(state: Target, step: Instruction, expand: Expand) -> str:
    name = expand(step.args[0])
    parse_signal(name)
    state.config.stop_signal = name
    return f"STOPSIGNAL {name}"


def cmd(state: Target, step: Instruction, expand: Expand) -> str:
    state.config.cmd = command_of(state, step)
    state.cmd_set = state.cmd_set or bool(step.args)
    return f"CMD {quoted(state.config.cmd)}"


def entrypoint(state: Target, step: Instruction, expand: Expand) -> str:
    command = command_of(state, step) if step.args else []
    state.config.entrypoint = command or None
    if not state.cmd_set:
        state.config.cmd = None
    return f"ENTRYPOINT {quoted(command)}"


def shell(state: Target, step: Instruction, expand: Expand) -> str:
    state.config.shell = list(step.args)
    return f"SHELL [{' '.join(step.args)}]"


def onbuild(state: Target, step: Instruction, expand: Expand) -> str:
    existing = state.config.on_build if isinstance(state.config.on_build, list) else []
    trigger = "\n".join([step.args[0], *(heredoc.following for heredoc in step.node.heredocs)])
    state.config.on_build = [*existing, trigger]
    return f"ONBUILD {trigger}"


def overridden_test(config: Config) -> list[str]:
    """What a HEALTHCHECK takes the place of; [] if there is none."""
    before = config.healthcheck
    test = before.test if isinstance(before, HealthConfig) else None
    return [] if not test or test[0] == "NONE" else test


def healthcheck(state: Target, step: Instruction, expand: Expand) -> str:
    config = parse_healthcheck(step.args, step.flags, is_json=step.is_json)
    words = f"HEALTHCHECK {described(config)}"  # before what is inherited
    before = state.config.healthcheck
    state.config.healthcheck = inherit(config, before) if isinstance(before, HealthConfig) else config
    return words


def command_of(state: Target, step: Instruction) -> list[str]:
    """The command of RUN, CMD or ENTRYPOINT: exec form as written, shell form behind the shell."""
    return list(step.args) if step.is_json else [*state.shell(), *step.args]


def quoted(words: list[str]) -> str:
    """Go's ``%q`` of a list of strings."""
    return f"[{' '.join(map(go_quote, words))}]"


SETTINGS: dict[str, Callable[[Target, Instruction, Expand], str]] = {
    "cmd": cmd,
    "entrypoint": entrypoint,
    "env": env,
    "expose": expose,
    "healthcheck": healthcheck,
    "label": label,
    "maintainer": maintainer,
    "onbuild": onbuild,
    "shell": shell,
    "stopsignal": stopsignal,
    "user": user,
    "volume": volume,
    "workdir": workdir,
}
