"""JSON as Go reads it, with Go's words for what is wrong.

Decoding is msgspec's; only a text that it refuses is looked at again here, for the message of
``encoding/json``. Names match without regard to case, as in Go.
"""

from __future__ import annotations

import re
from typing import Any, TypeVar

import msgspec

from services.protocol import jsonshape
from services.protocol.errors import InvalidParameter

T = TypeVar("T", bound=msgspec.Struct)

_NUMBER = re.compile(rb"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_STRING = re.compile(rb'"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"')
_LONG_NUMBER = re.compile(rb"[0-9]{19}")
_INT64 = 1 << 63
_SPACE = re.compile(rb"[ \t\r\n]*")
_EXPECTED = re.compile(r"Expected `(.+?)`(?:, got `(.+?)`)?(?: - at `(?:key in )?\$?(.*)`)?")
_INDEX = re.compile(r"\[\d+\]")
_KINDS = {
    "str": "string",
    "object": "object",
    "array": "array",
    "int": "number",
    "float": "number",
    "bool": "bool",
}
_GO = {
    "str": "string",
    "int": "int64",
    "bool": "bool",
    "float": "float64",
    "array": "[]string",
    "object": "map[string]string",
}


def decode(data: bytes) -> Any:
    """*data* as plain values; raises :class:`InvalidParameter`."""
    if not data.strip():
        raise InvalidParameter("invalid JSON: got EOF while reading request body")
    try:
        value = msgspec.json.decode(data)
        if _LONG_NUMBER.search(data):
            _check_numbers(value)
        return value
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        end = _value_end(data)
        if end is not None:
            raise InvalidParameter("unexpected content after JSON") from None
        if (lenient := _lenient(data)) is not None:
            return lenient
        raise InvalidParameter(f"invalid JSON: {explain(data)}") from None


def _lenient(data: bytes) -> Any:
    """*data* with what is no Unicode in its strings replaced by U+FFFD, as Go does; None if it is no JSON."""
    import json

    def refuse(word: str) -> None:
        raise ValueError(word)  # NaN and Infinity

    try:
        value = _readable(json.loads(data.decode(errors="replace"), parse_constant=refuse))
        _check_numbers(value)
        return value
    except (ValueError, RecursionError):
        return None


def _readable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, dict):
        return {_readable(key): _readable(member) for key, member in value.items()}
    if isinstance(value, list):
        return [_readable(member) for member in value]
    return value


def _check_numbers(value: Any) -> None:
    """The API's numbers have 64 bits; Python's and msgspec's have as many as it takes."""
    if isinstance(value, dict):
        for member in value.values():
            _check_numbers(member)
    elif isinstance(value, list):
        for member in value:
            _check_numbers(member)
    elif isinstance(value, int) and not -_INT64 <= value < _INT64:
        raise InvalidParameter(
            f"invalid JSON: json: cannot unmarshal number {value} into Go value of type int64"
        )


def unmarshal(data: bytes, kind: type[T], name: str) -> T:
    """A whole text as *kind*, which is Go's type *name*; raises with the words of ``json.Unmarshal``."""
    try:
        value = jsonshape.parse(data)
    except (msgspec.DecodeError, RecursionError):
        text = explain(data).replace("unexpected EOF", "unexpected end of JSON input")
        raise InvalidParameter(text) from None
    if not isinstance(value, dict | None):
        raise InvalidParameter(f"json: cannot unmarshal {_kind_of(value)} into Go value of type {name}")
    try:
        return jsonshape.convert(value or {}, kind)
    except msgspec.ValidationError as error:
        raise InvalidParameter(_mismatch(str(error), name.rpartition(".")[2])) from None


def convert(value: Any, kind: type[T]) -> T:
    """*value* as *kind*; raises :class:`InvalidParameter` with Go's words."""
    if not isinstance(value, dict):
        what = _kind_of(value)
        raise InvalidParameter(
            f"invalid JSON: json: cannot unmarshal {what} into Go value of type {_go_type(kind)}"
        )
    try:
        return jsonshape.convert(value, kind)
    except msgspec.ValidationError as error:
        raise InvalidParameter(f"invalid JSON: {_mismatch(str(error), _go_type(kind))}") from None


#: Where Go's type has another name.
_GO_TYPES = {
    "ExecConfig": "ExecCreateRequest",
    "ExecStart": "ExecStartRequest",
    "NetworkCreateRequest": "CreateRequest",
    "UpdateRequest": "UpdateConfig",
    "VolumeCreateRequest": "CreateRequest",
}


def _go_type(kind: type) -> str:
    return _GO_TYPES.get(kind.__name__, kind.__name__)


def _kind_of(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    return {list: "array", str: "string", int: "number", float: "number"}.get(type(value), "object")


def _mismatch(text: str, name: str) -> str:
    match = _EXPECTED.match(text)
    if match is None:
        return text
    expected = next((p for p in match[1].split(" | ") if p != "null"), match[1])
    got = _KINDS.get(match[2] or "", match[2] or "value")
    path = (match[3] or "").replace("[...]", "").lstrip(".")
    wanted = _GO.get(expected, expected)
    return f"json: cannot unmarshal {got} into Go struct field {name}.{path} of type {wanted}"


def _value_end(data: bytes) -> int | None:
    """Where the first JSON value ends, when more than white space follows it."""
    import json

    try:
        text = data.decode()
        start = len(text) - len(text.lstrip(" \t\r\n"))
        _, end = json.JSONDecoder().raw_decode(text, start)
    except (ValueError, RecursionError):
        return None
    return end if text[end:].strip(" \t\r\n") else None


def problem(data: bytes, wanted: str, inside: str) -> str:
    """What ``json.Unmarshal`` says of *data*, which it does not take for a *wanted*: a Go type such as
    ``map[string]string`` or ``[]*units.Ulimit``. *inside* is what msgspec says."""
    try:
        scanner = _Scanner(data)
        scanner.value("looking for beginning of value")
        scanner.end()
    except _Syntax as error:
        return "unexpected end of JSON input" if str(error) == "unexpected EOF" else str(error)
    except RecursionError:
        return "exceeded max depth"
    value = msgspec.json.decode(data)
    inner = wanted.partition("]")[2].lstrip("*")
    if isinstance(value, list if wanted.startswith("[]") else dict):
        members = value if isinstance(value, list) else value.values()
        right = str if inner == "string" else dict
        wrong = [member for member in members if member is not None and not isinstance(member, right)]
        if not wrong:
            return _mismatch(_INDEX.sub("", inside), inner.rpartition(".")[2])
        value, wanted = wrong[0], inner
    return f"json: cannot unmarshal {_kind_of(value)} into Go value of type {wanted}"


class _Syntax(Exception):
    pass


def explain(data: bytes) -> str:
    """What Go's scanner says of *data*, which is not JSON."""
    try:
        _Scanner(data).value("looking for beginning of value")
    except _Syntax as error:
        return str(error)
    except RecursionError:
        return "exceeded max depth"
    return "invalid JSON text"


class _Scanner:
    """The states of Go's ``scanner`` that differ in their message."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def _skip(self) -> None:
        match = _SPACE.match(self.data, self.at)
        self.at = match.end() if match else self.at

    def _peek(self, context: str, allowed: bytes) -> int:
        self._skip()
        if self.at >= len(self.data):
            raise _Syntax("unexpected EOF")
        byte = self.data[self.at]
        if allowed and byte not in allowed:
            raise self._error(context)
        return byte

    def _error(self, context: str) -> _Syntax:
        if self.at >= len(self.data):
            return _Syntax("unexpected EOF")
        character = chr(self.data[self.at])
        shown = {"'": r"'\''", '"': "'\"'"}.get(character) or (
            f"'{character}'" if character.isprintable() and character.isascii() else repr(character)
        )
        return _Syntax(f"invalid character {shown} {context}")

    def value(self, context: str) -> None:
        byte = self._peek(context, b"")
        if byte == ord("{"):
            self._object()
        elif byte == ord("["):
            self._array()
        elif byte == ord('"'):
            self._string()
        elif byte in b"-0123456789":
            match = _NUMBER.match(self.data, self.at)
            if match is None:
                self.at += 1
                raise self._error("in numeric literal")
            self.at = match.end()
        else:
            self._literal(context)

    def end(self) -> None:
        """Raises for what follows the value."""
        self._skip()
        if self.at < len(self.data):
            raise self._error("after top-level value")

    def _literal(self, context: str) -> None:
        for word in (b"true", b"false", b"null"):
            if self.data[self.at] == word[0]:
                for offset, expected in enumerate(word):
                    here = self.at + offset
                    if here >= len(self.data):
                        raise _Syntax("unexpected EOF")
                    if self.data[here] != expected:
                        self.at = here
                        raise self._error(f"in literal {word.decode()} (expecting {chr(expected)!r})")
                self.at += len(word)
                return
        raise self._error(context)

    def _string(self) -> None:
        match = _STRING.match(self.data, self.at)
        if match is not None:
            self.at = match.end()
            return
        prefix = re.compile(rb'"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*').match(
            self.data, self.at
        )
        self.at = prefix.end() if prefix else self.at
        in_escape = self.at < len(self.data) and self.data[self.at] == ord("\\")
        if in_escape:
            self.at += 1
        raise self._error("in string escape code" if in_escape else "in string literal")

    def _object(self) -> None:
        self.at += 1
        if self._peek("looking for beginning of object key string", b'"}') == ord("}"):
            self.at += 1
            return
        while True:
            self._peek("looking for beginning of object key string", b'"')
            self._string()
            self._peek("after object key", b":")
            self.at += 1
            self.value("looking for beginning of value")
            if self._peek("after object key:value pair", b",}") == ord("}"):
                self.at += 1
                return
            self.at += 1

    def _array(self) -> None:
        self.at += 1
        if self._peek("looking for beginning of value", b"") == ord("]"):
            self.at += 1
            return
        while True:
            self.value("looking for beginning of value")
            if self._peek("after array element", b",]") == ord("]"):
                self.at += 1
                return
            self.at += 1
