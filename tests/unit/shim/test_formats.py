"""Records as text: Docker's json-file byte for byte, and the local driver's."""

from __future__ import annotations

import json

import pytest

from services.containerd_shim.logdrivers.base import (
    STDERR,
    STDOUT,
    Format,
    details,
    fixed,
    rfc3339_fixed,
    rfc3339_nano,
)
from services.containerd_shim.logdrivers.json_file import JsonFormat, escape
from services.containerd_shim.logdrivers.local import LocalFormat

NOW = 1_700_000_000_120_000_000


def test_json_record_is_dockers() -> None:
    text = JsonFormat({}).encode(STDOUT, b"hello\n", NOW)
    assert text == b'{"log":"hello\\n","stream":"stdout","time":"2023-11-14T22:13:20.12Z"}\n'


def test_attributes_come_before_the_time() -> None:
    text = JsonFormat({"b": "2", "a": "1"}).encode(STDERR, b"x\n", NOW)
    assert text == (
        b'{"log":"x\\n","stream":"stderr","attrs":{"a":"1","b":"2"},"time":"2023-11-14T22:13:20.12Z"}\n'
    )


def test_piece_of_a_line_has_no_newline() -> None:
    assert b'{"log":"abc","stream"' in JsonFormat({}).encode_partial(STDOUT, b"abc", NOW)


@pytest.mark.parametrize(
    ("raw", "escaped"),
    [
        (b'a"b\\c', b'a\\"b\\\\c'),
        (b"<a>&b", b"\\u003ca\\u003e\\u0026b"),
        (b"\r\t\x00\x1b\x7f", b"\\r\\u0009\\u0000\\u001b\x7f"),
        ("é\u2028\u2029".encode(), "é\\u2028\\u2029".encode()),
        (b"\xff\xe2\x82x", b"\\ufffd\\ufffd\\ufffdx"),
        (b"\xed\xa0\x80", b"\\ufffd\\ufffd\\ufffd"),
        (b'\xe2\x82"', b'\\ufffd\\ufffd\\"'),
    ],
)
def test_escapes_are_gos(raw: bytes, escaped: bytes) -> None:
    assert escape(raw) == escaped


@pytest.mark.parametrize("make", [JsonFormat, LocalFormat])
def test_what_is_written_is_read(make: type[JsonFormat] | type[LocalFormat]) -> None:
    form: Format = make({"app": "x y", "zone": "z1"})
    lines = [b"one\n", b"\n", b'quo"te \\ <&> \t\r\n', "ünï\n".encode()]
    text = form.encode(STDERR, b"".join(lines), NOW) + form.encode_partial(STDOUT, b"rest", NOW)
    assert text.endswith(b"\n")
    records = [form.decode(each) for each in text.split(b"\n")[:-1]]
    assert [record.line for record in records if record] == [*lines, b"rest"]
    assert [record.stream for record in records if record] == [STDERR] * 4 + [STDOUT]
    assert {record.time for record in records if record} == {rfc3339_fixed(NOW)}
    assert {record.details for record in records if record} == {"app=x+y,zone=z1"}


@pytest.mark.parametrize("make", [JsonFormat, LocalFormat])
def test_garbage_is_no_record(make: type[JsonFormat] | type[LocalFormat]) -> None:
    assert make({}).decode(b"garbage") is None
    assert make({}).decode(b'{"log":"cut o') is None


def test_each_json_line_is_json() -> None:
    every = bytes(byte for byte in range(256) if byte != 0x0A) + b"\n"
    for line in JsonFormat({"k": 'v"'}).encode(STDOUT, every * 3, NOW).splitlines():
        assert json.loads(line)["log"].endswith("\n")


def test_times() -> None:
    assert rfc3339_nano(1_700_000_000_000_000_000) == "2023-11-14T22:13:20Z"
    assert rfc3339_nano(NOW) == "2023-11-14T22:13:20.12Z"
    assert fixed("2023-11-14T22:13:20Z") == "2023-11-14T22:13:20.000000000Z"
    assert fixed("2023-11-14T22:13:20.12Z") == rfc3339_fixed(NOW)


def test_details_are_sorted_and_quoted() -> None:
    assert details({"z": "1", "a b": "c=d,e"}) == "a+b=c%3Dd%2Ce,z=1"
