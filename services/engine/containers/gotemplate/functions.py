"""The functions of a template: moby's ``templates`` package and the builtins of ``text/template``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_plus

from services.engine.containers.gotemplate.values import (
    Struct,
    Value,
    encode,
    printable,
    show,
    sprint,
    sprintf,
    type_name,
)

#: ``reflect.Value`` and ``interface{}``: any value at all.
ANY = "any"
_HTML = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&#34;", "'": "&#39;", "\0": "\ufffd"})
_JS = {"\\": "\\\\", "'": "\\'", '"': '\\"'}
#: Spaces that padding may add on a side; Go has no bound but its memory.
_MAX_PAD = 1000


class CallError(Exception):
    """What a function says of its arguments."""


@dataclass(frozen=True)
class Function:
    """*types* are Go's names of the fixed parameters; *more* that of the variadic one."""

    call: Callable[..., Any]
    types: tuple[str, ...] = ()
    more: str = ""


def truth(value: Value) -> bool:
    return isinstance(value, Struct) or bool(value)


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogateescape")


def _text(data: bytes) -> str:
    return data.decode(errors="surrogateescape")


def _pad(source: str, prefix: int, suffix: int) -> str:
    if not source:
        return source
    if min(prefix, suffix) < 0:
        raise CallError("strings: negative Repeat count")
    if max(prefix, suffix) > _MAX_PAD:
        raise CallError(f"more than {_MAX_PAD} spaces are not supported")
    return " " * prefix + source + " " * suffix


def _truncate(source: str, length: int) -> str:
    if length < 0:
        raise CallError(f"runtime error: slice bounds out of range [:{length}]")
    return _text(_bytes(source)[:length])


def _split(text: str, separator: str) -> list[str]:
    return text.split(separator) if separator else list(text)


def _each(change: Callable[[str], str]) -> Callable[[str], str]:
    """Go changes each character by itself, and into one."""

    def changed(character: str) -> str:
        other = change(character)
        return other if len(other) == 1 else character

    return lambda text: "".join(map(changed, text))


def _title(text: str) -> str:
    found, start = [], True
    title = _each(str.title)
    for character in text:
        found.append(title(character) if start else character)
        word = character == "_" or character.isalpha() or character.isdecimal()
        start = not word if character.isascii() or word else character.isspace()
    return "".join(found)


def _js(character: str) -> str:
    if character in _JS:
        return _JS[character]
    if character in "<>&=" or character < " " or not character.isprintable():
        return f"\\u{ord(character):04X}"
    return character


def _joined(*values: Value) -> str:
    return sprint(values, printable)


def _len(value: Value) -> int:
    if isinstance(value, str):
        return len(_bytes(value))
    if isinstance(value, list | dict):
        return len(value)
    if value is None:
        raise CallError("reflect: call of reflect.Value.Type on zero Value")
    raise CallError(f"len of type {_pointed(value)}")


def _pointed(value: Value) -> str:
    return type_name(value).removeprefix("*")


def _index(item: Value, *indexes: Value) -> Value:
    if item is None:
        raise CallError("index of untyped nil")
    for index in indexes:
        if isinstance(item, dict):
            if index is None:
                raise CallError("value is nil; should be of type string")
            if not isinstance(index, str):
                raise CallError(f"value has type {type_name(index)}; should be string")
            item = item.get(index, "")
        elif isinstance(item, str | list):
            values = _bytes(item) if isinstance(item, str) else item
            item = values[_position(index, len(values) - 1)]
        else:
            raise CallError(f"can't index item of type {_pointed(item)}")
    return item


def _position(index: Value, last: int) -> int:
    if index is None:
        raise CallError("cannot index slice/array with nil")
    if not isinstance(index, int) or isinstance(index, bool):
        raise CallError(f"cannot index slice/array with type {type_name(index)}")
    if not 0 <= index <= last:
        raise CallError(f"index out of range: {index}")
    return index


def _slice(item: Value, *indexes: Value) -> Value:
    if item is None:
        raise CallError("slice of untyped nil")
    if len(indexes) > 3:
        raise CallError(f"too many slice indexes: {len(indexes)}")
    if isinstance(item, str) and len(indexes) == 3:
        raise CallError("cannot 3-index slice a string")
    if not isinstance(item, str | list):
        raise CallError(f"can't slice item of type {_pointed(item)}")
    values = _bytes(item) if isinstance(item, str) else item
    places = [_position(index, len(values)) for index in indexes]
    for first, second in zip(places, places[1:], strict=False):
        if first > second:
            raise CallError(f"invalid slice index: {first} > {second}")
    found = values[slice(*[*places, *[0, len(values)][len(places) :]][:2])]
    return _text(found) if isinstance(found, bytes) else found


def _equal(first: Value, *others: Value) -> bool:
    if not others:
        raise CallError("missing argument for comparison")
    found = False
    for other in others:
        if first is None or other is None:
            found = found or first is other
            continue
        kinds = {type_name(first), type_name(other)}
        if kinds == {"[]string"} or kinds == {"map[string]string"}:
            raise CallError(f"non-comparable type {show(other)}: {type_name(other)}")
        if len(kinds) > 1:
            raise _incompatible(first, other)
        if first == other:
            return True
    return found


def _incompatible(first: Value, second: Value) -> CallError:
    return CallError(f"incompatible types for comparison: {type_name(first)} and {type_name(second)}")


def _less(first: Value, second: Value) -> bool:
    if isinstance(first, str) and isinstance(second, str):
        return _bytes(first) < _bytes(second)
    if type_name(first) == type_name(second) == "int":
        return first < second  # type: ignore[operator]  # two of int
    if {type_name(first), type_name(second)} <= {"int", "string", "bool"} and type(first) is not type(second):
        raise _incompatible(first, second)
    raise CallError("invalid type for comparison")


def _less_or_equal(first: Value, second: Value) -> bool:
    return _less(first, second) or _equal(first, second)


_STRING = ("string",)
_TWO = (ANY, ANY)
#: ``and``, ``or`` and ``call`` are the evaluator's; they are here for their parameters.
FUNCTIONS: dict[str, Function] = {
    "json": Function(encode, (ANY,)),
    "split": Function(_split, ("string", "string")),
    "join": Function(lambda items, separator: separator.join(items), ("[]string", "string")),
    "title": Function(_title, _STRING),
    "lower": Function(_each(lambda character: character.lower()[:1]), _STRING),
    "upper": Function(_each(str.upper), _STRING),
    "pad": Function(_pad, ("string", "int", "int")),
    "truncate": Function(_truncate, ("string", "int")),
    "print": Function(lambda *values: sprint(values), more=ANY),
    "println": Function(lambda *values: " ".join(map(show, values)) + "\n", more=ANY),
    "printf": Function(lambda template, *values: sprintf(template, values), _STRING, ANY),
    "html": Function(lambda *values: _joined(*values).translate(_HTML), more=ANY),
    "js": Function(lambda *values: "".join(map(_js, _joined(*values))), more=ANY),
    "urlquery": Function(lambda *values: quote_plus(_bytes(_joined(*values)), safe="~"), more=ANY),
    "len": Function(_len, (ANY,)),
    "index": Function(_index, (ANY,), ANY),
    "slice": Function(_slice, (ANY,), ANY),
    "eq": Function(_equal, (ANY,), ANY),
    "ne": Function(lambda first, second: not _equal(first, second), _TWO),
    "lt": Function(_less, _TWO),
    "le": Function(_less_or_equal, _TWO),
    "gt": Function(lambda first, second: not _less_or_equal(first, second), _TWO),
    "ge": Function(lambda first, second: not _less(first, second), _TWO),
    "not": Function(lambda value: not truth(value), (ANY,)),
    "and": Function(lambda *values: values[-1], (ANY,), ANY),
    "or": Function(lambda *values: values[-1], (ANY,), ANY),
    "call": Function(lambda value, *_: value, (ANY,), ANY),
}
