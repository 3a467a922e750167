"""JSON as Go's ``encoding/json`` reads it: ``null`` leaves a field at its zero value.

msgspec is strict about ``null``; Docker's clients send it for every nil slice and map. Members that
are ``null`` are dropped before conversion where the field's type has no ``None``.
"""

from __future__ import annotations

import functools
import types
import typing
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")


@functools.cache
def _fields(kind: type) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {f.encode_name: hints[f.name] for f in msgspec.structs.fields(kind)}


@functools.cache
def _folded(kind: type) -> dict[str, str]:
    """Lower-case name -> name: Go matches names without regard to case."""
    return {name.lower(): name for name in _fields(kind)}


def _options(kind: Any) -> tuple[Any, ...]:
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        return typing.get_args(kind)
    return (kind,)


def _prune(value: Any, kind: Any) -> Any:
    """*value* without the nulls that *kind* has no place for."""
    options = _options(kind)
    if isinstance(value, dict):
        for option in options:
            if isinstance(option, type) and issubclass(option, msgspec.Struct):
                return _prune_struct(value, option)
            if typing.get_origin(option) is dict:
                item = typing.get_args(option)[1]
                return {k: _prune(v, item) for k, v in value.items()}
    elif isinstance(value, list):
        for option in options:
            if typing.get_origin(option) is list:
                return [_prune(v, typing.get_args(option)[0]) for v in value]
    return value


def _prune_struct(value: dict[str, Any], kind: type) -> dict[str, Any]:
    fields, out = _fields(kind), {}
    for given, member in value.items():
        name = given if given in fields else _folded(kind).get(given.lower())
        if name is None:
            continue
        if member is None and type(None) not in _options(fields[name]):
            continue
        out[name] = _prune(member, fields[name])
    return out


def convert(value: Any, kind: type[T]) -> T:
    """Already parsed JSON as *kind*; raises :class:`msgspec.ValidationError`."""
    return msgspec.convert(_prune(value, kind), kind)


def decode(data: bytes, kind: type[T]) -> T:
    """JSON text as *kind*; raises :class:`msgspec.DecodeError` or ``ValidationError``."""
    return convert(parse(data), kind)


def parse(data: bytes) -> Any:
    """Any JSON text; raises :class:`msgspec.DecodeError`. What is not UTF-8 is replaced, as in Go."""
    try:
        return msgspec.json.decode(data)
    except UnicodeDecodeError:
        return parse(data.decode(errors="replace").encode())
    except RecursionError as error:
        raise msgspec.DecodeError("exceeded max depth") from error
