"""Rotation, reading back, tails, and crashes."""

from __future__ import annotations

import gzip
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest

from services.containerd_shim.logdrivers.base import STDERR, STDOUT
from services.containerd_shim.logdrivers.files import LogFiles, LogWriter, compress
from services.containerd_shim.logdrivers.json_file import JsonFormat
from services.containerd_shim.logdrivers.options import LogOptions, parse
from services.containerd_shim.logdrivers.reader import LogReader
from services.containerd_shim.logdrivers.render import Renderer
from services.containerd_shim.logdrivers.sink import LogSink, open_sink
from services.containerd_shim.shim.main import _compress_apart
from services.protocol.errors import InvalidParameter
from services.protocol.shim import ReadLogs


def sink(path: Path, **options: object) -> LogSink:
    made = LogOptions(**options)  # type: ignore[arg-type]
    return LogSink(JsonFormat({}), LogWriter(str(path), made), made)


def read(path: Path, tail: int = -1, **request: object) -> bytes:
    renderer = Renderer(JsonFormat({}), ReadLogs(tail=tail, multiplexed=False, **request))  # type: ignore[arg-type]
    reader = LogReader(LogFiles(str(path)), tail)
    out = b""
    while not renderer.done and (records := reader.read()):
        out += renderer.render(records)
    reader.close()
    return out


def numbered(first: int, last: int) -> bytes:
    return b"".join(b"line %d\n" % number for number in range(first, last + 1))


def test_rotation_keeps_the_newest_in_order(tmp_path: Path) -> None:
    log = sink(tmp_path / "log", max_size=1000, max_files=3)
    log.feed(STDOUT, numbered(1, 100))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "log.1", "log.2"]
    shown = read(tmp_path / "log")
    assert numbered(1, 100).endswith(shown) and shown.count(b"\n") > 20
    assert all(path.stat().st_size < 1100 for path in tmp_path.iterdir())


def test_one_file_begins_anew(tmp_path: Path) -> None:
    log = sink(tmp_path / "log", max_size=1000)
    log.feed(STDOUT, numbered(1, 100))
    assert [path.name for path in tmp_path.iterdir()] == ["log"]
    assert numbered(1, 100).endswith(read(tmp_path / "log"))


def test_compressed_files_are_read(tmp_path: Path) -> None:
    log = sink(tmp_path / "log", max_size=1000, max_files=4, compress=True)
    log.feed(STDOUT, numbered(1, 40))
    assert (tmp_path / "log.1.gz").exists() and not (tmp_path / "log.1").exists()
    assert gzip.decompress((tmp_path / "log.1.gz").read_bytes()).count(b"\n") > 5
    assert read(tmp_path / "log") == numbered(1, 40)
    assert read(tmp_path / "log", tail=30) == numbered(11, 40)


def test_a_file_keeps_its_name_while_it_is_compressed(tmp_path: Path) -> None:
    """Else a compressor that is slow would remove the file that has that name by then."""
    waited: list[int] = []

    def slow(path: str) -> Callable[[], None]:
        began = os.stat(path).st_ino

        def finish() -> None:
            assert os.stat(path).st_ino == began
            compress(path)
            waited.append(began)

        return finish

    made = LogOptions(max_size=1000, max_files=50, compress=True)
    writer = LogWriter(str(tmp_path / "log"), made, slow)
    log = LogSink(JsonFormat({}), writer, made)
    log.feed(STDOUT, numbered(1, 100))
    assert len(waited) == writer.generation - 1 > 3
    assert read(tmp_path / "log") == numbered(1, 100)


def test_the_shim_compresses_apart_and_can_wait(tmp_path: Path) -> None:
    (tmp_path / "log.1").write_bytes(b"text")
    _compress_apart(str(tmp_path / "log.1"))()
    os.wait()
    assert [path.name for path in tmp_path.iterdir()] == ["log.1.gz"]
    assert gzip.decompress((tmp_path / "log.1.gz").read_bytes()) == b"text"


@pytest.mark.parametrize("tail", [0, 1, 2, 17, 99, 100, 101, 5000])
def test_tail(tmp_path: Path, tail: int) -> None:
    log = sink(tmp_path / "log", max_size=1500, max_files=50)
    log.feed(STDOUT, numbered(1, 100))
    assert read(tmp_path / "log", tail) == numbered(max(101 - tail, 1), 100)


def test_tail_of_long_records(tmp_path: Path) -> None:
    log = sink(tmp_path / "log")
    lines = [bytes([97 + number]) * 15000 + b"\n" for number in range(20)]
    log.feed(STDOUT, b"".join(lines))
    assert read(tmp_path / "log", 7) == b"".join(lines[13:])


def test_reader_follows_through_rotations(tmp_path: Path) -> None:
    log = sink(tmp_path / "log", max_size=300, max_files=20)
    reader = LogReader(log.files)
    renderer = Renderer(JsonFormat({}), ReadLogs(multiplexed=False))
    out = b""
    for number in range(1, 60):
        log.feed(STDOUT, b"line %d\n" % number)
        if number % 7 == 0:
            while records := reader.read():
                out += renderer.render(records)
    while records := reader.read():
        out += renderer.render(records)
    assert out == numbered(1, 59)


@pytest.mark.parametrize("max_size", [None, 300])
def test_a_reader_with_an_end_reads_nothing_written_later(tmp_path: Path, max_size: int | None) -> None:
    log = sink(tmp_path / "log", max_size=max_size, max_files=40)
    log.feed(STDOUT, numbered(1, 5))
    reader = LogReader(log.files, end=(log.files.generation, log.files.size))
    renderer = Renderer(JsonFormat({}), ReadLogs(multiplexed=False))
    log.feed(STDOUT, numbered(6, 30))
    out = b""
    while records := reader.read():
        out += renderer.render(records)
        log.feed(STDOUT, numbered(31, 40))
    assert out == numbered(1, 5)


def test_since_and_until_are_inclusive(tmp_path: Path) -> None:
    form = JsonFormat({})
    second = 1_700_000_000_000_000_000
    text = b"".join(form.encode(STDOUT, b"%d\n" % n, second + n * 1_000_000_000) for n in range(5))
    (tmp_path / "log").write_bytes(text)
    assert read(tmp_path / "log", since=second + 2_000_000_000) == b"2\n3\n4\n"
    assert read(tmp_path / "log", until=second + 2_000_000_000) == b"0\n1\n2\n"
    assert read(tmp_path / "log", since=second + 1, until=second + 1_500_000_000) == b"1\n"


def test_streams_frames_and_prefixes(tmp_path: Path) -> None:
    log = open_sink("json-file", str(tmp_path / "log"), {}, {"app": "x"})
    assert log is not None
    log.feed(STDOUT, b"out\n")
    log.feed(STDERR, b"err")
    log.finish(STDERR)
    records = (tmp_path / "log").read_bytes()
    form = JsonFormat({})
    assert Renderer(form, ReadLogs()).render(records) == (
        b"\x01\0\0\0\0\0\0\x04out\n" + b"\x02\0\0\0\0\0\0\x03err"
    )
    assert Renderer(form, ReadLogs(stdout=False)).render(records) == b"\x02\0\0\0\0\0\0\x03err"
    shown = Renderer(form, ReadLogs(multiplexed=False, timestamps=True, details=True)).render(records)
    time_, rest = shown.split(b" ", 1)
    assert len(time_) == 30 and rest.startswith(b"app=x out\n")


def test_half_a_record_is_cut_off_at_start(tmp_path: Path) -> None:
    log = sink(tmp_path / "log")
    log.feed(STDOUT, b"whole\n")
    log.files.close()
    with (tmp_path / "log").open("ab") as file:
        file.write(b'{"log":"torn')
    again = sink(tmp_path / "log")
    again.feed(STDOUT, b"next\n")
    assert read(tmp_path / "log") == b"whole\nnext\n"


def test_buffer_drops_what_does_not_fit(tmp_path: Path) -> None:
    log = sink(tmp_path / "log", buffer=250)
    for number in range(10):
        log.feed(STDOUT, b"%d\n" % number)
    assert read(tmp_path / "log") == b"" and log.waiting
    log.flush()
    assert read(tmp_path / "log") == b"0\n1\n2\n"


@pytest.mark.parametrize(
    ("driver", "options", "text"),
    [
        ("json-file", {"max-size": "bogus"}, "invalid size: 'bogus'"),
        ("json-file", {"max-file": "0"}, "max-file cannot be less than 1"),
        ("json-file", {"max-size": "1k", "compress": "true"}, "compress cannot be true when"),
        ("local", {"compress": "maybe"}, "invalid boolean value for compress"),
        ("nosuch", {}, "no log driver named 'nosuch'"),
    ],
)
def test_bad_options_are_refused_in_dockers_words(driver: str, options: dict[str, str], text: str) -> None:
    with pytest.raises(InvalidParameter, match="failed to initialize logging driver: .*" + text):
        parse(driver, options)


def test_defaults() -> None:
    assert parse("json-file", {}) == LogOptions()
    assert parse("local", {}) == LogOptions(20 * 1024 * 1024, 5, True)
    assert parse("json-file", {"max-size": "1k"}).max_size == 1000
    assert parse("json-file", {"mode": "non-blocking", "max-buffer-size": "2m"}).buffer == 2 * 1024 * 1024


def test_many_lines_are_no_more_work_than_few(tmp_path: Path) -> None:
    """Work for each line, as small as it may be, would make logs of short lines ten times slower."""
    log = sink(tmp_path / "log")
    few, many = ((b"x" * (size - 1) + b"\n") * (60_000 // size) for size in (10_000, 10))
    assert instructions(lambda: log.feed(STDOUT, many)) < 2 * instructions(lambda: log.feed(STDOUT, few))


def instructions(run: Callable[[], None]) -> int:
    """How many the interpreter executes for *run*, which is the same on every machine."""
    count = 0

    def trace(frame: FrameType, event: str, _argument: object) -> object:
        nonlocal count
        frame.f_trace_opcodes = True
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)  # type: ignore[arg-type]
    try:
        run()
    finally:
        sys.settrace(before)
    return count
