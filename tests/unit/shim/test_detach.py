"""Detach keys: as users write them, and as they are typed."""

from __future__ import annotations

import pytest

from services.containerd_shim.stdio.detach import DEFAULT, DetachFilter, parse
from services.protocol.errors import InvalidParameter


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("", DEFAULT),
        ("ctrl-p,ctrl-q", b"\x10\x11"),
        ("a", b"a"),
        ("ctrl-@,x", b"\0x"),
        ("ctrl-],ctrl-_", b"\x1d\x1f"),
    ],
)
def test_parse(text: str, keys: bytes) -> None:
    assert parse(text) == keys


@pytest.mark.parametrize("text", ["ctrl-", "ctrl-1", "ab", "a,,b", "ctrl-A"])
def test_parse_refuses(text: str) -> None:
    with pytest.raises(InvalidParameter, match="Invalid detach keys"):
        parse(text)


def typed(keys: bytes, *pieces: bytes) -> tuple[bytes, bool]:
    filter_ = DetachFilter(keys)
    out = b""
    for piece in pieces:
        passed, gone = filter_.feed(piece)
        out += passed
        if gone:
            return out, True
    return out, False


def test_sequence_detaches_in_any_number_of_reads() -> None:
    assert typed(DEFAULT, b"ab\x10\x11cd") == (b"ab", True)
    assert typed(DEFAULT, b"ab\x10", b"\x11") == (b"ab", True)
    assert typed(b"abc", b"xa", b"b", b"c") == (b"x", True)


def test_what_was_held_back_is_passed_on() -> None:
    assert typed(DEFAULT, b"\x10", b"x") == (b"\x10x", False)
    assert typed(DEFAULT, b"\x10\x10\x11") == (b"\x10", True)
    assert typed(b"abc", b"ababc") == (b"ab", True)


def test_beginning_at_the_end_is_held() -> None:
    filter_ = DetachFilter(DEFAULT)
    assert filter_.feed(b"x\x10") == (b"x", False)
    assert filter_.held() == b"\x10"
