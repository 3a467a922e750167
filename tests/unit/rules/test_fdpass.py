"""Messages over unix sockets: of any length, with their descriptors."""

from __future__ import annotations

import contextlib
import gc
import os
import socket

import msgspec
import pytest

from services.protocol import fdpass
from services.protocol.errors import InvalidParameter, Unavailable, to_failure


class _Message(msgspec.Struct):
    text: str


def _open() -> set[tuple[str, str]]:
    """Number and kind of each descriptor; others may go meanwhile."""
    found = set()
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            found.add((number, os.readlink(f"/proc/self/fd/{number}")))
    return found


@pytest.mark.parametrize("size", [0, fdpass.MAX_MESSAGE - 100, fdpass.MAX_MESSAGE, 5 << 20])
def test_a_message_of_any_length_arrives_with_its_descriptors(size: int) -> None:
    gc.collect()  # what other tests have forgotten must not be closed in between
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    before = _open()
    with ours, theirs:
        reading, writing = os.pipe()
        fdpass.send(ours, _Message("x" * size), [writing])
        os.close(writing)
        message, fds = fdpass.receive(theirs, _Message)
        assert len(message.text) == size
        os.write(fds[0], b"here")
        assert os.read(reading, 10) == b"here"
        for fd in (reading, *fds):
            os.close(fd)
        assert not _open() - before


def test_a_long_message_that_is_none_is_refused() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs, open(os.memfd_create("empty"), "wb") as empty:
        fdpass._send(ours, b"\xc1", [empty.fileno()])
        with pytest.raises(Unavailable):
            fdpass.receive(theirs, _Message)


def test_the_text_of_an_error_is_bounded() -> None:
    assert len(to_failure(InvalidParameter("x" * 1_000_000)).message) < 10_000
    assert len(to_failure(ValueError("x" * 1_000_000)).message) < 10_000
