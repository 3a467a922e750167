"""Checked instructions: arity, flags, names. Refusals are buildkit's (``instructions/parse.go``)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from services.engine.containers.values import go_quote
from services.engine.dockerfile import heredocs
from services.engine.dockerfile.healthcheck import healthcheck
from services.engine.dockerfile.mountflags import check_mount
from services.engine.dockerfile.parser import Node, parse_one
from services.engine.dockerfile.suggest import suggestion
from services.protocol.errors import InvalidParameter

NAMES = (
    "add", "arg", "cmd", "copy", "entrypoint", "env", "expose", "from", "healthcheck", "label", "maintainer",
    "onbuild", "run", "shell", "stopsignal", "user", "volume", "workdir",
)  # fmt: skip

_UPPER = tuple(name.upper() for name in NAMES)
_FLAGS: dict[str, tuple[str, ...]] = {
    "from": ("platform",),
    "run": ("mount", "network", "security"),
    "copy": ("from", "chown", "chmod", "link", "parents", "exclude"),
    "add": ("chown", "chmod", "link", "parents", "keep-git-dir", "checksum", "unpack", "exclude"),
    "healthcheck": ("interval", "timeout", "start-period", "start-interval", "retries"),
}
#: Values of ``RUN --network``.
NETWORKS = ("default", "none", "host")
_REPEATED = ("mount", "exclude")
_BOOLEAN = ("link", "parents", "keep-git-dir", "unpack")
#: Their options are looked at before their arguments are counted; of some not at all.
_FLAGS_FIRST = ("cmd", "entrypoint", "env", "label", "run", "shell")
_FLAGS_IGNORED = ("arg", "stopsignal")
_ONE = ("maintainer", "stopsignal", "user", "workdir")
_SOME = ("expose", "volume")
_STAGE_NAME = re.compile(r"^[a-z][a-z0-9-_.]*$")


@dataclass(frozen=True)
class Instruction:
    """``args`` as in :class:`Node`; ``flags`` name -> values. ``literal``: the words are taken as they
    are, whatever quotes and variables they have."""

    node: Node
    name: str
    args: tuple[str, ...]
    flags: dict[str, list[str]] = field(default_factory=dict)
    literal: bool = False

    @property
    def is_json(self) -> bool:
        return self.node.is_json

    def flag(self, name: str) -> str:
        """The flag's only value, "" when it is not given."""
        return self.flags.get(name, [""])[0]


@dataclass
class Stage:
    """``base`` and ``name`` as written; ``index`` from 0."""

    index: int
    base: str
    name: str
    origin: Instruction
    instructions: list[Instruction] = field(default_factory=list)


@dataclass(frozen=True)
class Program:
    """ARGs before the first FROM, and the stages."""

    arguments: tuple[Instruction, ...]
    stages: tuple[Stage, ...]


def program(nodes: Sequence[Node]) -> Program:
    """All of a file. Raises ``InvalidParameter`` with the line."""
    arguments: list[Instruction] = []
    stages: list[Stage] = []
    for node in nodes:
        instruction = _with_line(node)
        if node.name == "from":
            stages.append(_stage(instruction, len(stages)))
        elif stages:
            stages[-1].instructions.append(instruction)
        elif node.name == "arg":
            arguments.append(instruction)
        else:
            raise InvalidParameter("no build stage in current context")
    return Program(tuple(arguments), tuple(stages))


def single(text: str, escape: str = "\\") -> Instruction:
    """One instruction by itself: a trigger. Raises ``InvalidParameter``."""
    return check(parse_one(text, escape))


def label(name: str, value: str) -> Instruction:
    """What ``--label`` adds to a file."""
    text = f"LABEL {name}={value}"
    node = Node(0, "label", "LABEL", (), (name, value), is_json=False, original=text)
    return Instruction(node, "label", node.args, literal=True)


def _with_line(node: Node) -> Instruction:
    try:
        return check(node)
    except InvalidParameter as error:
        raise InvalidParameter(f"dockerfile parse error on line {node.line}: {error}") from None


def check(node: Node) -> Instruction:
    """Raises ``InvalidParameter`` without the line."""
    if node.name not in NAMES:
        raise InvalidParameter(f"unknown instruction: {node.written}{suggestion(node.name.upper(), _UPPER)}")
    if node.name in _FLAGS_FIRST:
        _check_flags(node)
    upper = node.name.upper()
    if node.name in _ONE and len(node.args) != 1:
        raise InvalidParameter(f"{upper} requires exactly one argument")
    if node.name in _SOME and not node.args:
        raise InvalidParameter(f"{upper} requires at least one argument")
    checker = _CHECKS.get(node.name)
    args = checker(node) if checker else node.args
    flags = {} if _ignores_flags(node) else _check_flags(node)
    if node.name == "healthcheck":
        healthcheck(args, flags, is_json=node.is_json)
    if node.name == "volume" and not all(path.strip() for path in args):
        raise InvalidParameter("VOLUME specified can not be an empty string")
    return Instruction(node, node.name, tuple(args), flags)


def _ignores_flags(node: Node) -> bool:
    return node.name in _FLAGS_IGNORED or (node.name == "healthcheck" and node.args[0].upper() == "NONE")


def _check_flags(node: Node) -> dict[str, list[str]]:
    known = _FLAGS.get(node.name, ())
    found: dict[str, list[str]] = {}
    for text in node.flags:
        name, equals, value = text[2:].partition("=")
        if name not in known:
            raise InvalidParameter(f"unknown flag: --{name}{suggestion(name, known)}")
        if name in found and name not in _REPEATED:
            raise InvalidParameter(f"duplicate flag specified: --{name}")
        if not (value if name in _BOOLEAN and equals else equals or name in _BOOLEAN):
            raise InvalidParameter(f"missing a value on flag: --{name}")
        if name in _BOOLEAN:
            value = value.lower() or "true"
            if value not in ("true", "false"):
                raise InvalidParameter(f"expecting boolean value for flag --{name}, not: {value}")
        found.setdefault(name, []).append(value)
    return found


def _check_pairs(node: Node) -> Sequence[str]:
    if not node.args:
        raise InvalidParameter(f"{node.name.upper()} requires at least one argument")
    if any(not name for name in node.args[::2]):
        raise InvalidParameter(f"{node.name.upper()} names can not be blank")
    return node.args


def _check_arg(node: Node) -> Sequence[str]:
    if not node.args:
        raise InvalidParameter("ARG requires at least one argument")
    for word in node.args:
        if word.startswith("="):
            raise InvalidParameter("ARG names can not be blank")
    return node.args


def _check_copy(node: Node) -> Sequence[str]:
    upper = node.name.upper()
    if len(node.args) < 2:
        raise InvalidParameter(
            f"{upper} requires at least two arguments, but only one was provided. "
            "Destination could not be determined"
        )
    if heredocs.of_word(node.args[-1]) is not None and not node.is_json:
        raise InvalidParameter(f"{upper} cannot accept a heredoc as a destination")
    return node.args


def _check_run(node: Node) -> Sequence[str]:
    for flag in node.flags:
        name, _, value = flag[2:].partition("=")
        if name == "network" and value not in NETWORKS:
            raise InvalidParameter(f'invalid network mode "{value}"')
        if name == "mount":
            check_mount(value)
    return node.args


def _check_from(node: Node) -> Sequence[str]:
    args = node.args
    if len(args) == 3 and args[1].lower() == "as":
        name = args[2].lower()
        if not _STAGE_NAME.match(name):
            raise InvalidParameter(
                f'invalid name for build stage: "{args[2]}", '
                "name can't start with a number or contain symbols"
            )
    elif len(args) != 1:
        raise InvalidParameter("FROM requires either one or three arguments")
    return args


def _check_shell(node: Node) -> Sequence[str]:
    if not node.args:
        raise InvalidParameter("SHELL requires at least one argument")
    if not node.is_json:
        raise InvalidParameter("SHELL requires the arguments to be in JSON form")
    return node.args


def _check_onbuild(node: Node) -> Sequence[str]:
    if not node.args:
        raise InvalidParameter("ONBUILD requires at least one argument")
    trigger = node.args[0].split(None, 1)[0].upper()
    if trigger == "ONBUILD":
        raise InvalidParameter("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    if trigger in ("MAINTAINER", "FROM"):
        raise InvalidParameter(f"{trigger} isn't allowed as an ONBUILD trigger")
    return node.args


def _check_healthcheck(node: Node) -> Sequence[str]:
    if not node.args:
        raise InvalidParameter("HEALTHCHECK requires at least one argument")
    kind = node.args[0].upper()
    if kind == "NONE":
        if len(node.args) > 1:
            raise InvalidParameter("HEALTHCHECK NONE takes no arguments")
    elif kind != "CMD":
        raise InvalidParameter(f"Unknown type {go_quote(kind)} in HEALTHCHECK (try CMD)")
    elif len(node.args) == 1:
        raise InvalidParameter("Missing command after HEALTHCHECK CMD")
    return node.args


def _check_expose(node: Node) -> Sequence[str]:
    return sorted(node.args)


_CHECKS = {
    "add": _check_copy,
    "arg": _check_arg,
    "copy": _check_copy,
    "env": _check_pairs,
    "expose": _check_expose,
    "from": _check_from,
    "healthcheck": _check_healthcheck,
    "label": _check_pairs,
    "onbuild": _check_onbuild,
    "run": _check_run,
    "shell": _check_shell,
}


def _stage(instruction: Instruction, index: int) -> Stage:
    name = instruction.args[2].lower() if len(instruction.args) == 3 else ""
    return Stage(index, instruction.args[0], name, instruction)
