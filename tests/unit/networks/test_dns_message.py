"""DNS messages: what is understood, what is answered, and rubbish."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.engine.networks.dns import message


def query(name: str, kind: int = message.A, *, flags: int = 0x0100, id_: int = 7) -> bytes:
    head = struct.pack(">HHHHHH", id_, flags, 1, 0, 0, 0)
    return head + message.encode_name(name) + struct.pack(">HH", kind, message.IN)


def test_question_is_lower_case_without_the_last_dot() -> None:
    question = message.parse(query("Web.N1"))
    assert (question.id, question.name, question.kind) == (7, "web.n1", message.A)


def test_answer_repeats_the_question_and_points_at_its_name() -> None:
    question = message.parse(query("web"))
    reply = message.answer(question, [bytes([10, 0, 0, 2])])
    assert struct.unpack_from(">HHHHHH", reply) == (7, 0x8180, 1, 1, 0, 0)
    assert reply.endswith(bytes.fromhex("c00c 0001 0001 00000258 0004 0a000002"))


def test_answer_that_does_not_fit_is_marked_as_cut() -> None:
    question = message.parse(query("web"))
    reply = message.answer(question, [bytes(4)] * 100)
    _, flags, _, answers, _, _ = struct.unpack_from(">HHHHHH", reply)
    assert flags & 0x0200 and 0 < answers < 100 and len(reply) <= 512
    whole = message.answer(question, [bytes(4)] * 100, limit=65535)
    assert struct.unpack_from(">HHHHHH", whole)[3] == 100


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 11,
        query("web", flags=0x8000),
        query("web", flags=0x2800),
        query("web")[:-2],
        struct.pack(">HHHHHH", 1, 0, 1, 0, 0, 0) + b"\xc0\x0c\0\1\0\1",
        struct.pack(">HHHHHH", 1, 0, 1, 0, 0, 0) + b"\x3f" * 400,
    ],
)
def test_rubbish_is_malformed(data: bytes) -> None:
    with pytest.raises(message.Malformed):
        message.parse(data)


@given(st.binary(max_size=300))
def test_no_bytes_break_the_parser(data: bytes) -> None:
    try:
        message.parse(data)
    except message.Malformed:
        message.refuse(data, message.FORMERR)


def test_id_is_exchanged() -> None:
    assert message.id_of(message.with_id(query("web"), 4711)) == 4711


def test_failures_of_other_servers() -> None:
    question = message.parse(query("web"))
    assert message.is_failure(message.answer(question, [], rcode=message.SERVFAIL))
    assert not message.is_failure(message.answer(question, []))
    assert message.is_failure(b"")
