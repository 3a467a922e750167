"""Logical lines to nodes: the instruction's name, its flags, and its arguments split as it wants them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from services.engine.containers.values import go_quote
from services.engine.dockerfile.forms import SyntaxProblem, json_list, take_flags
from services.engine.dockerfile.heredocs import Heredoc, on_line
from services.engine.dockerfile.lines import Source, read


@dataclass(frozen=True)
class Node:
    """One instruction. ``name`` is lower-case, ``written`` as in the file.

    ``args``: of ``env``/``label`` name and value in turn; of a JSON form its items (``is_json``); of a
    shell form one string. ``original`` is the whole logical line.
    """

    line: int
    name: str
    written: str
    flags: tuple[str, ...]
    args: tuple[str, ...]
    is_json: bool
    original: str
    heredocs: tuple[Heredoc, ...] = ()


@dataclass(frozen=True)
class Dockerfile:
    nodes: tuple[Node, ...]
    escape: str
    warnings: tuple[str, ...]


def parse(text: str, name: str) -> Dockerfile:
    """Raises ``InvalidParameter`` ("failed to parse *name*: ..."; without a name what is wrong alone)."""
    try:
        return _parse(text)
    except SyntaxProblem as error:
        if not name:
            raise
        raise SyntaxProblem(f"failed to parse {name}: {error}") from None


def parse_changes(text: str) -> tuple[tuple[Node, ...], str]:
    """Instructions that are in no file, and their escape character; errors are told without a name."""
    found = _parse(text)
    return found.nodes, found.escape


def _parse(text: str) -> Dockerfile:
    source = read(text)
    nodes = tuple(parse_line(line.text, line.number, source.escape, line.heredocs) for line in source.lines)
    if not nodes:
        raise SyntaxProblem("file with no instructions")
    return Dockerfile(nodes, source.escape, _warnings(source))


def _warnings(source: Source) -> tuple[str, ...]:
    found = [f"[WARNING]: Empty continuation line found in: {text}" for text in source.warnings]
    if found:
        found.append("[WARNING]: Empty continuation lines will become errors in a future release.")
    return tuple(found)


def parse_line(text: str, number: int, escape: str, heredocs: tuple[Heredoc, ...] = ()) -> Node:
    written, _, rest = _cut(text.strip())
    flags, rest = take_flags(rest)
    name = written.lower()
    split = _SPLITTERS.get(name, _whole)
    args, is_json = split(rest, name, escape)
    return Node(number, name, written, flags, tuple(args), is_json, text, heredocs)


def parse_one(text: str, escape: str) -> Node:
    """One instruction by itself; the lines after the first are its here-documents, if it begins any."""
    first, _, following = text.partition("\n")
    name, _, rest = _cut(first.strip())
    if not following or not on_line(name.lower(), rest):
        return parse_line(text, 1, escape)
    lines = read(text, escape).lines
    if len(lines) != 1:
        raise SyntaxProblem("more than one instruction")
    return parse_line(lines[0].text, 1, escape, lines[0].heredocs)


def _cut(text: str) -> tuple[str, str, str]:
    parts = text.split(None, 1)
    return parts[0], " ", parts[1] if len(parts) > 1 else ""


_Split = tuple[list[str], bool]


def _whole(rest: str, name: str, escape: str) -> _Split:
    return ([rest.strip()] if rest.strip() else []), False


def _fields(rest: str, name: str, escape: str) -> _Split:
    return rest.split(), False


def _json_or_whole(rest: str, name: str, escape: str) -> _Split:
    items = json_list(rest)
    return (items, True) if items is not None else _whole(rest, name, escape)


def _json_or_fields(rest: str, name: str, escape: str) -> _Split:
    items = json_list(rest)
    return (items, True) if items is not None else _fields(rest, name, escape)


def _healthcheck(rest: str, name: str, escape: str) -> _Split:
    kind, _, command = _cut(rest.strip()) if rest.strip() else ("", "", "")
    if not kind:
        return [], False
    args, is_json = _json_or_whole(command, name, escape)
    return [kind, *args], is_json


def _trigger(rest: str, name: str, escape: str) -> _Split:
    """As it is; what it would be as an instruction of its own is looked at for mistakes."""
    if rest.strip() and _cut(rest)[0].lower() != name:  # a chain of them is refused later
        parse_line(rest, 0, escape)
    return _whole(rest, name, escape)


def words(rest: str, escape: str) -> list[str]:
    """Split at white space outside quotes; quotes and escapes stay in the words."""
    found: list[str] = []
    word, quote, index = "", "", 0
    while index < len(rest):
        char = rest[index]
        if char == escape and index + 1 < len(rest) and quote != "'":
            word += rest[index : index + 2]
            index += 2
            continue
        if quote:
            quote = "" if char == quote else quote
        elif char in "\"'":
            quote = char
        elif char.isspace():
            if word:
                found.append(word)
            word = ""
            index += 1
            continue
        word += char
        index += 1
    return [*found, word] if word else found


def _pairs(rest: str, name: str, escape: str) -> _Split:
    """``name=value ...`` or the old ``name value with spaces``."""
    found = words(rest, escape)
    if not found:
        return [], False
    if "=" not in found[0]:
        first, _, value = _cut(rest.strip())
        if not value:
            raise SyntaxProblem(f"{name.upper()} must have two arguments")
        return [first, value], False
    args: list[str] = []
    for word in found:
        if "=" not in word:
            raise SyntaxProblem(
                f"Syntax error - can't find = in {go_quote(word)}. Must be of the form: name=value"
            )
        key, _, value = word.partition("=")
        args += [key, value]
    return args, False


def _name_or_pair(rest: str, name: str, escape: str) -> _Split:
    return words(rest, escape), False


_SPLITTERS: dict[str, Callable[[str, str, str], _Split]] = {
    "add": _json_or_fields,
    "arg": _name_or_pair,
    "cmd": _json_or_whole,
    "copy": _json_or_fields,
    "entrypoint": _json_or_whole,
    "env": _pairs,
    "expose": _fields,
    "from": _fields,
    "healthcheck": _healthcheck,
    "label": _pairs,
    "onbuild": _trigger,
    "run": _json_or_whole,
    "shell": _json_or_whole,
    "volume": _json_or_fields,
}
