"""Helpers by name: registered once, run by hand under their own name, refused otherwise."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
from pathlib import Path

import msgspec
import pytest

from reexec import registry
from reexec.call import Call
from reexec.command import command
from reexec.dispatch import DISPATCHER, install
from reexec.registry import HELPERS, find, register
from reexec.run import run
from reexec.stream import ClientTarget
from services.protocol.errors import Conflict, ErrorKind, InvalidParameter, NotFound


@pytest.fixture
def helper(monkeypatch: pytest.MonkeyPatch) -> None:
    """``docker-test``: fails, answers or ends as it is told."""
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))

    @register("docker-test")
    def main(call: Call) -> int | bytes | None:
        if call.argv[1] == "fail":
            raise Conflict("told to")
        if call.argv[1] == "answer":
            return msgspec.msgpack.encode({"x": 1})
        return int(call.argv[1])


def test_duplicate_raises(helper: None) -> None:
    with pytest.raises(ValueError, match="docker-test is registered twice"):
        register("docker-test")(lambda call: 0)


def test_unknown_is_not_found() -> None:
    with pytest.raises(NotFound, match="docker-nosuch is not a registered helper"):
        find("docker-nosuch")


@pytest.mark.parametrize("name", HELPERS)
def test_every_name_is_registered_by_its_module(name: str) -> None:
    if importlib.util.find_spec(HELPERS[name]) is None:
        pytest.fail(f"{HELPERS[name]} does not exist")
    assert find(name).__module__ == HELPERS[name]


def test_run(helper: None) -> None:
    assert run(Call(["docker-test", "7"])).status == 7
    answered = run(Call(["docker-test", "answer"]))
    assert (answered.status, msgspec.msgpack.decode(answered.result)) == (0, {"x": 1})
    failed = run(Call(["docker-test", "fail"]))
    assert failed.status == 1 and failed.failure is not None
    assert (failed.failure.kind, failed.failure.message) == (ErrorKind.CONFLICT, "told to")
    crashed = run(Call(["docker-test", "x"]))
    assert crashed.failure is not None and crashed.failure.kind is ErrorKind.SYSTEM


def test_document_is_checked() -> None:
    assert Call(["x", '{"a":1}']).document(dict[str, int]) == {"a": 1}
    for argv in (["x"], ["x", "{"], ["x", '{"a":"b"}']):
        with pytest.raises(InvalidParameter):
            Call(argv).document(dict[str, int])


def test_links_run_helpers_and_nothing_else(tmp_path: Path) -> None:
    install(tmp_path)
    install(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {DISPATCHER, *HELPERS}
    done = subprocess.run([tmp_path / "docker-init", "--", "sh", "-c", "exit 5"])
    assert done.returncode == 5
    (tmp_path / "docker-nosuch").symlink_to(DISPATCHER)
    (tmp_path / "other").symlink_to(DISPATCHER)
    refused = subprocess.run([tmp_path / "docker-nosuch"], capture_output=True, text=True)
    assert refused.returncode == 1
    assert refused.stderr == "docker-nosuch: docker-nosuch is not a registered helper\n"
    other = subprocess.run([tmp_path / "other"], capture_output=True, text=True)
    assert other.returncode == 1 and "docker-untar" in other.stderr


def test_command_passes_descriptors() -> None:
    reader, writer = os.pipe()
    try:
        status, errors = command("docker-init", "--", "sh", "-c", "echo out", fds={"stdout": writer}).run()
    finally:
        os.close(writer)
    with os.fdopen(reader) as file:
        assert (status, errors, file.read()) == (0, "", "out\n")


@pytest.mark.parametrize(("program", "status"), [("exit 3", 3), ("kill -9 $$", 137), ("exec /nosuch", 127)])
def test_init_ends_as_its_program(program: str, status: int) -> None:
    assert command("docker-init", "--", "sh", "-c", program).run()[0] == status


def test_init_passes_signals_on_and_reaps(tmp_path: Path) -> None:
    trap = f"trap 'echo term > {tmp_path}/got; exit 9' TERM"
    script = f"{trap}; touch {tmp_path}/up; while :; do sleep 0.01; done"
    process = command("docker-init", "-s", "--", "sh", "-c", script).start()
    while not (tmp_path / "up").exists():
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 9
    assert (tmp_path / "got").read_text() == "term\n"


def test_stream_writes_head_once_and_chunks() -> None:
    reader, writer = os.pipe()
    opened: list[bool] = []
    target = ClientTarget(writer, b"HEAD", chunked=True, opened=lambda: opened.append(True))
    stream = Call(["x"], target=target).stream()
    assert Call(["x"], target=target).stream() is stream
    stream.write(b"abc")
    stream.write(b"")
    stream.close()
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        assert file.read() == b"HEAD3\r\nabc\r\n0\r\n\r\n"
    assert opened == [True]
