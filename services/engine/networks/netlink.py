"""Netlink, hand-packed: attributes, messages, and a socket that sends batches and checks answers.

pyroute2 costs the engine 25 MB and 160 ms at import for messages whose layout is fixed; the ones
needed here are few (netlink(7), linux/netlink.h). Calls block: they are made in a worker thread.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
#: What is listed has changed between two parts of the list: some of it may be missing.
NLM_F_DUMP_INTR = 0x10
NLM_F_DUMP = 0x300
NLM_F_EXCL = 0x200
NLM_F_CREATE = 0x400
NLM_F_REPLACE = 0x100
NLM_F_APPEND = 0x800
NLMSG_ERROR = 2
NLMSG_DONE = 3
NLA_F_NESTED = 0x8000
_NLA_TYPE_MASK = 0x3FFF
_SOL_NETLINK = 270
_NETLINK_CAP_ACK = 10
#: Bytes read at once; a dump's parts are at most 32 KiB (netlink_dump in the kernel).
_BUFFER = 64 * 1024
#: Seconds after which an answer of the kernel is given up; the rtnl lock can be held for long.
_TIMEOUT = 20.0
#: How often a list is asked for while it changes.
_DUMPS = 20

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")


class NetlinkError(OSError):
    """The kernel refused a message; ``errno`` says why."""


@dataclass(frozen=True)
class Message:
    """One request: ``payload`` starts with the family's own header."""

    kind: int
    flags: int
    payload: bytes


def attribute(kind: int, payload: bytes) -> bytes:
    length = 4 + len(payload)
    return _ATTRIBUTE.pack(length, kind) + payload + bytes(-length % 4)


def nested(kind: int, *attributes: bytes) -> bytes:
    return attribute(kind | NLA_F_NESTED, b"".join(attributes))


def text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def u8(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("=B", value))


def u32(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("=I", value))


def be32(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack(">I", value & 0xFFFFFFFF))


def parse(data: bytes) -> dict[int, bytes]:
    """Attributes by kind; of repeated ones the last."""
    found: dict[int, bytes] = {}
    offset = 0
    while offset + 4 <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < 4:
            break
        found[kind & _NLA_TYPE_MASK] = data[offset + 4 : offset + length]
        offset += length + (-length % 4)
    return found


def string(value: bytes) -> str:
    return value.split(b"\0", 1)[0].decode()


class NetlinkSocket:
    """A long-lived socket of one netlink family, used by one thread at a time.

    It belongs to the network namespace of the thread that makes it.
    """

    def __init__(self, family: int) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, family)
        try:
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
            self._socket.settimeout(_TIMEOUT)
            self._socket.bind((0, 0))
        except OSError:
            self._socket.close()
            raise
        self._sequence = 0

    def close(self) -> None:
        self._socket.close()

    def transact(self, messages: Sequence[Message]) -> list[int]:
        """Send *messages* in one datagram, in order; the errno of each (0: done).

        The kernel goes on behind a refused message.
        """
        if not messages:
            return []  # the kernel takes no empty datagram (ENODATA)
        first = self._sequence + 1
        self._send([Message(m.kind, m.flags | NLM_F_ACK, m.payload) for m in messages])
        results: dict[int, int] = {}
        while len(results) < len(messages):
            for kind, _, sequence, payload in self._receive():
                if kind == NLMSG_ERROR and sequence >= first:
                    results[sequence] = -struct.unpack_from("=i", payload)[0]
        return [results[first + index] for index in range(len(messages))]

    def request(self, *messages: Message) -> None:
        """:meth:`transact`, raising :class:`NetlinkError` for the first refused message."""
        for code in self.transact(messages):
            if code:
                raise NetlinkError(code, os.strerror(code))

    def batch(self, messages: Sequence[Message]) -> None:
        """An nfnetlink transaction, which the caller has framed; all or nothing.

        Errors carry the sequence number of their message, and come before the answer to the last
        but one message (the end marker is last). An error of the commit names the first message.
        """
        first = self._sequence + 1
        final = first + len(messages) - 2
        framed = [
            Message(m.kind, m.flags | (NLM_F_ACK if index == len(messages) - 2 else 0), m.payload)
            for index, m in enumerate(messages)
        ]
        self._send(framed)
        failed = 0
        while True:
            for kind, _, sequence, payload in self._receive():
                if kind != NLMSG_ERROR or sequence < first:
                    continue
                code = -struct.unpack_from("=i", payload)[0]
                failed = failed or code
                if sequence == final or (sequence == first and code):
                    if failed:
                        raise NetlinkError(failed, os.strerror(failed))
                    return

    def dump(self, message: Message) -> list[tuple[int, bytes]]:
        """(kind, payload) of every object of a dump request."""
        for _ in range(_DUMPS):
            found, is_whole = self._dump(message)
            if is_whole:
                break
        return found

    def _dump(self, message: Message) -> tuple[list[tuple[int, bytes]], bool]:
        first = self._sequence + 1
        self._send([Message(message.kind, message.flags | NLM_F_DUMP, message.payload)])
        found: list[tuple[int, bytes]] = []
        is_whole = True
        while True:
            for kind, flags, sequence, payload in self._receive():
                if sequence != first:
                    continue
                is_whole = is_whole and not flags & NLM_F_DUMP_INTR
                if kind == NLMSG_DONE:
                    return found, is_whole
                if kind == NLMSG_ERROR:
                    code = -struct.unpack_from("=i", payload)[0]
                    raise NetlinkError(code, os.strerror(code))
                found.append((kind, payload))

    def _send(self, messages: Sequence[Message]) -> None:
        parts: list[bytes] = []
        for message in messages:
            self._sequence += 1
            length = 16 + len(message.payload)
            flags = message.flags | NLM_F_REQUEST
            parts.append(_HEADER.pack(length, message.kind, flags, self._sequence, 0))
            parts.append(message.payload + bytes(-length % 4))
        self._socket.send(b"".join(parts))

    def _receive(self) -> Iterator[tuple[int, int, int, bytes]]:
        """(kind, flags, sequence number, payload) of each message of one datagram."""
        try:
            data = self._socket.recv(_BUFFER)
        except TimeoutError as error:
            raise NetlinkError(errno.ETIMEDOUT, "the kernel does not answer on netlink") from error
        offset = 0
        while offset + 16 <= len(data):
            length, kind, flags, sequence, _ = _HEADER.unpack_from(data, offset)
            if length < 16:
                return
            yield kind, flags, sequence, data[offset + 16 : offset + length]
            offset += length + (-length % 4)
