"""The verbs of the engine: one record each, with the types of its arguments and of its answer.

The API server calls ``client.call(verbs.containers.INSPECT, InspectArgs(...))``; the engine
registers ``router.add(verbs.containers.INSPECT, handler)``. Both are checked by the type checker.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec

A = TypeVar("A", bound=msgspec.Struct)
R = TypeVar("R")


class Nothing(msgspec.Struct, frozen=True):
    """No arguments, or no answer but success."""


class Ref(msgspec.Struct, frozen=True):
    """An object by name, id or unambiguous id prefix."""

    ref: str


class Filters(msgspec.Struct, frozen=True):
    """Filters as the API has them: key to values, all keys and any of a key's values must match."""

    filters: dict[str, list[str]] = {}


@dataclass(frozen=True)
class Verb(Generic[A, R]):
    """``name`` is ``<noun>.<verb>``; the answer is one value of ``reply``."""

    name: str
    args: type[A]
    reply: type[R]


@dataclass(frozen=True)
class StreamVerb(Generic[A, R]):
    """Any number of ``item`` values, then success or failure."""

    name: str
    args: type[A]
    item: type[R]
