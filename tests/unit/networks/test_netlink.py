"""Lists of the kernel that change while they are read."""

from __future__ import annotations

import struct
from typing import Any

from services.engine.networks.netlink import NLM_F_DUMP_INTR, NLMSG_DONE, Message, NetlinkSocket

_OBJECT = 16


class _Kernel:
    """Answers each dump with the parts given for it: (flags, objects) of a datagram each."""

    def __init__(self, *dumps: list[tuple[int, list[bytes]]]) -> None:
        self._dumps = list(dumps)
        self._parts: list[bytes] = []

    def send(self, data: bytes) -> None:
        (sequence,) = struct.unpack_from("=I", data, 8)
        parts = self._dumps.pop(0)
        self._parts = [
            b"".join(_message(_OBJECT, flags, sequence, one) for one in objects) for flags, objects in parts
        ]
        self._parts.append(_message(NLMSG_DONE, parts[-1][0], sequence, bytes(4)))

    def recv(self, size: int) -> bytes:
        return self._parts.pop(0)


def _message(kind: int, flags: int, sequence: int, payload: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(payload), kind, flags, sequence, 0) + payload


def _dump(*dumps: list[tuple[int, list[bytes]]]) -> list[bytes]:
    sock: Any = NetlinkSocket.__new__(NetlinkSocket)
    sock._socket, sock._sequence = _Kernel(*dumps), 0
    return [payload for _, payload in sock.dump(Message(18, 0, bytes(16)))]


def test_a_list_that_changed_meanwhile_is_asked_for_again() -> None:
    torn = [(0, [b"one1"]), (NLM_F_DUMP_INTR, [b"four"])]
    whole = [(0, [b"one1", b"two2"]), (0, [b"four"])]
    assert _dump(torn, torn, whole) == [b"one1", b"two2", b"four"]


def test_a_list_that_never_comes_to_rest_is_taken_as_it_is() -> None:
    torn = [(NLM_F_DUMP_INTR, [b"one1"])]
    assert _dump(*[torn] * 100) == [b"one1"]
