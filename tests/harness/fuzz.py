"""Hostile requests, made from a seed: documents of the API's own types with values nobody should send.

Each document starts as one that is right and has some of its members replaced, by values of a wrong
type or by the worst of the right one. The same seed makes the same requests.
"""

from __future__ import annotations

import types
import typing
from random import Random
from typing import Any

import msgspec

#: Of each type, what a careless or a bad client sends.
_STRINGS = (
    "", " ", "\0", "a\0b", "/\0", "\n", "a\nb", "\r\n", "\t", "\x7f", "\x1b[2J", "é", "\U0001f600", "￿",
    "..", "../..", "/", "//", "/..", "./x", "a/b", "a:b", ":", "::", "=", "a=b", "=b", ",", "a,b", "%s%n",
    "%00", "-1", "0", "1", "4294967296", "99999999999999999999", "1e9", "0x10", "NaN", "true", "null",
    "none", "host", "container:", "container:x", "bridge", "private", "unconfined", "no", "always",
    "sha256:", "sha256:" + "a" * 64, "127.0.0.1", "256.1.1.1", "::1", "fe80::1%eth0", "10.0.0.0/8",
    "0.0.0.0/0", "::/0", "80/tcp", "0/tcp", "80/", "/tcp", "65536/udp", "80-90/tcp", "90-80",
    "aa:bb:cc:dd:ee:ff", "c *:* rwm", "b 1:x r", "rwmx", "٣", "１２", "²", "x" * 64, "x" * 255, "x" * 256,
    "x" * 5000, "/" + "y/" * 3000, "é" * 200, "z" * 100_000,
)  # fmt: skip
_NUMBERS = (
    0, 1, -1, 2, -2, 255, 256, 65535, 65536, -(1 << 31), 1 << 31, (1 << 32) - 1, 1 << 32, 1 << 53,
    (1 << 63) - 1, -(1 << 63), 1 << 63, 1 << 64, 10**30, -(10**30),
)  # fmt: skip
_ODD = (None, True, False, 0, -1, 1.5, 1e308, "", "x", [], {}, [None], [[]], {"": None}, {"x": "y"}, ["x", 1])

#: Query strings and path elements.
RAW_QUERY = (
    "", "%00", "%", "%zz", "%ff",
    "%ed%a0%80", "a%00b", "%0a", "-1", "1", "0", "true", "99999999999999999999", "1.5", "x" * 300,
    "x" * 5000, "..%2f..", "%2f", "%5b%5d", "%7b%7d", "%7b%22x%22%3a%7b%7d%7d", "%5b" * 3000,
    "%7b%22label%22%3a%5b%22%00%22%5d%7d", "%7b%22id%22%3a%5b%22%5cu0000%22%5d%7d", "null", "%22%22",
    "%d9%a3", "%c2%b2", "%7b%22status%22%3anull%7d", "%7b%22since%22%3a%5b%22%00%22%5d%7d",
    "%7b%22dangling%22%3a%5b%22x%22%5d%7d", "%7b%22until%22%3a%5b%22-1%22%5d%7d",
    "%7b%22label%22%3a%7b%22%00%22%3atrue%7d%7d", "%7b%22name%22%3a%5b%22%28%22%5d%7d",
    "%7b%22exited%22%3a%5b%22%d9%a3%22%5d%7d", "%7b%22reference%22%3a%5b%22%5b%22%5d%7d",
)  # fmt: skip

#: Bodies that are no documents, or only just.
RAW_BODIES = (
    b"", b" ", b"\0", b"{", b"}", b"[", b"]", b"null", b"true", b"1", b'""', b"[]", b"{}", b'{"', b'{"a"',
    b'{"a":', b'{"a":}', b"{'a':1}", b'{"a":1,}', b'{"a":01}', b'{"a":1e}', b'{"a":"\\x"}',
    b'{"a":"\\ud800"}', b'{"Image":"\\udfff\\ud800"}', b'{"a":"\xff"}', b'{"Image":"\xed\xa0\x80"}',
    b'{"Image":"a\0"}', b"\xef\xbb\xbf{}", b"{}{}", b"{}x", b'{"":{}}', b"[" * 100_000, b'{"a":' * 20_000,
    b'{"HostConfig":' * 500 + b"1" + b"}" * 500, b'{"Memory":' + b"9" * 5000 + b"}",
    b'{"a":' + b"[" * 900 + b"]" * 900 + b"}", b'{"Cmd":[' + b'"x",' * 50_000 + b'"x"]}', b"NaN",
    b'{"a":NaN}', b'{"a":Infinity}', b'{"Image":"busybox","Image":"x"}',
    b'{"iMaGe":"busybox","HOSTCONFIG":{"MEMORY":-5}}', b'{"Memory":1.5}', b'{"Memory":1e400}',
)  # fmt: skip


class Fuzz:
    """Everything is drawn from one generator, so a failure is repeated by its seed and count."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)

    def document(self, kind: type[msgspec.Struct], base: dict[str, Any], changes: int = 3) -> dict[str, Any]:
        """*base* with one to *changes* members replaced, at any depth of *kind*."""
        document = msgspec.json.decode(msgspec.json.encode(base))
        for _ in range(self.random.randint(1, changes)):
            self._change(document, kind)
        return document

    def _change(self, document: dict[str, Any], kind: type[msgspec.Struct]) -> None:
        hints = typing.get_type_hints(kind)
        field = self.random.choice(msgspec.structs.fields(kind))
        nested = _struct(hints[field.name])
        # Structures are where the interesting members are: go into them more often than not.
        if nested is not None and self.random.random() < 0.9:
            inner = document.setdefault(field.encode_name, {})
            if isinstance(inner, dict):
                self._change(inner, nested)
                return
        document[field.encode_name] = self._value(hints[field.name])

    def _value(self, kind: Any, depth: int = 0) -> Any:
        if self.random.random() < 0.08:
            return self.random.choice(_ODD)
        options = [one for one in _options(kind) if one not in (type(None), msgspec.UnsetType)]
        kind = self.random.choice(options) if options else Any
        origin = typing.get_origin(kind)
        if kind is bool:
            return self.random.random() < 0.5
        if kind is int:
            return self.random.choice(_NUMBERS)
        if kind is str:
            return self.random.choice(_STRINGS)
        if origin is list:
            count = self.random.choice((0, 1, 1, 1, 2, 3))
            return [self._value(typing.get_args(kind)[0], depth + 1) for _ in range(count)]
        if origin is dict:
            member = typing.get_args(kind)[1]
            return {self.random.choice(_STRINGS): self._value(member, depth + 1) for _ in range(2)}
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            hints = typing.get_type_hints(kind)
            fields = msgspec.structs.fields(kind)
            if depth > 3:
                return {}
            chosen = self.random.sample(fields, min(len(fields), self.random.randint(1, 4)))
            return {one.encode_name: self._value(hints[one.name], depth + 1) for one in chosen}
        return self.random.choice(_ODD)

    def query(self, names: tuple[str, ...]) -> str:
        chosen = self.random.sample(names, min(len(names), self.random.randint(1, 2)))
        return "&".join(f"{name}={self.random.choice(RAW_QUERY)}" for name in chosen)

    def string(self) -> str:
        return self.random.choice(_STRINGS)


def _options(kind: Any) -> tuple[Any, ...]:
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return typing.get_args(kind)
    return (kind,)


def _struct(kind: Any) -> type[msgspec.Struct] | None:
    for one in _options(kind):
        if isinstance(one, type) and issubclass(one, msgspec.Struct):
            return one
    return None
