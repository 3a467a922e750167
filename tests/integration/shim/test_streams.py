"""Bytes: attach, logs, terminals; what clients do must not harm the container."""

from __future__ import annotations

import contextlib
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.protocol import task_pb2 as pb
from services.protocol.errors import Conflict, InvalidParameter, Unimplemented
from services.protocol.shim import Attach, ReadLogs
from tests.harness.shims import Service, frames, hand_over, read_all, read_until, wait_for

BOTH = {"stdout": True, "stderr": True}


def test_attached_before_the_start(service: Service, name: str) -> None:
    path = service.prepare(name, open_stdin=True, stdin_once=True)
    connection = hand_over(path, Attach(stdin=True, **BOTH), head=b"HEAD\r\n", pending=b"first\n")
    connection.sendall(b"second\n")
    connection.shutdown(socket.SHUT_WR)
    service.create(name, "sh", "-c", "cat; echo err >&2; exit 3")
    service.start_task(name)
    data = read_all(connection)
    assert data.startswith(b"HEAD\r\n")
    assert frames(data[6:]) == {1: b"first\nsecond\n", 2: b"err\n"}
    assert service.wait(name) == 3
    service.delete(name)


def test_end_of_input_without_once_ends_the_attachment_only(service: Service, name: str) -> None:
    path = service.run(name, "cat", open_stdin=True)
    connection = hand_over(path, Attach(stdin=True, **BOTH))
    connection.sendall(b"x\n")
    read_until(connection, b"x\n")
    connection.shutdown(socket.SHUT_WR)
    assert read_all(connection) == b""
    again = hand_over(path, Attach(stdin=True, **BOTH))
    again.sendall(b"y\n")
    assert b"y\n" in read_until(again, b"y\n")
    service.call("CloseIO", pb.CloseIORequest(id=name, stdin=True))
    assert service.wait(name) == 0
    again.close()
    service.delete(name)


def test_once_closes_input_when_the_client_vanishes(service: Service, name: str) -> None:
    path = service.run(name, "cat", open_stdin=True, stdin_once=True)
    hand_over(path, Attach(stdin=True, **BOTH)).close()
    assert service.wait(name) == 0
    service.delete(name)


def test_only_the_streams_that_were_asked_for(service: Service, name: str) -> None:
    path = service.prepare(name)
    out, err = hand_over(path, Attach(stdout=True)), hand_over(path, Attach(stderr=True))
    service.create(name, "sh", "-c", "echo out; echo err >&2")
    service.start_task(name)
    assert frames(read_all(out)) == {1: b"out\n"}
    assert frames(read_all(err)) == {2: b"err\n"}
    service.delete(name)


def test_a_megabyte_of_input(service: Service, name: str) -> None:
    path = service.prepare(name, open_stdin=True, stdin_once=True)
    service.create(name, "wc", "-c")
    connection = hand_over(path, Attach(stdin=True, **BOTH))
    service.start_task(name)
    connection.sendall(b"\0" * 1_000_000)
    connection.shutdown(socket.SHUT_WR)
    assert frames(read_all(connection)) == {1: b"1000000\n"}
    service.delete(name)


def test_slow_client_makes_the_container_wait_and_nothing_else(service: Service, name: str) -> None:
    path = service.prepare(name, driver="none")
    service.create(name, "head", "-c", "30000000", "/dev/zero")
    slow = hand_over(path, Attach(stdout=True))
    service.start_task(name)
    time.sleep(0.3)
    # Answered although nobody reads.
    assert service.call("State", pb.StateRequest(id=name)).status == pb.RUNNING
    assert len(frames(read_all(slow))[1]) == 30_000_000
    assert service.wait(name) == 0
    service.delete(name)


def test_exit_does_not_wait_for_a_slow_client(service: Service, name: str) -> None:
    path = service.prepare(name)
    service.create(name, "head", "-c", "900000", "/dev/zero")
    slow = hand_over(path, Attach(stdout=True))
    service.start_task(name)
    assert service.wait(name) == 0
    service.delete(name)
    assert len(frames(read_all(slow))[1]) == 900_000, "the rest comes although the task is deleted"


def test_terminal(service: Service, name: str) -> None:
    path = service.prepare(name, terminal=True, open_stdin=True)
    connection = hand_over(path, Attach(stdin=True, **BOTH))
    service.create(name, "sh", terminal=True)
    service.start_task(name)
    read_until(connection, b"# ")
    service.call("ResizePty", pb.ResizePtyRequest(id=name, height=11, width=22))
    connection.sendall(b"stty size; echo err >&2\n")
    assert b"11 22\r\nerr\r\n" in read_until(connection, b"err\r\n")
    connection.sendall(b"sleep 100\n")
    read_until(connection, b"sleep 100\r\n")
    wait_for(lambda: runs(service, name, b"sleep\x00100"))
    connection.sendall(b"\x03")
    read_until(connection, b"^C\r\n~ # \x1b[6n")
    with service.subscribed() as events:
        while not next(events).HasField("synchronised"):
            pass
        connection.sendall(b"\x10\x11")
        while not (event := next(events)).HasField("detached"):
            pass
        assert event.id == name
    assert read_all(connection) == b""
    again = hand_over(path, Attach(stdin=True, detach_keys="ctrl-x,x", **BOTH))
    again.sendall(b"exit 9\n")
    assert b"exit 9" in read_all(again)
    assert service.wait(name) == 9
    service.delete(name)


def runs(service: Service, name: str, command: bytes) -> bool:
    for pid in service.call("Pids", pb.PidsRequest(id=name)).pids:
        with contextlib.suppress(OSError):  # it has ended just then
            if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(command):
                return True
    return False


def test_terminal_of_an_exec(service: Service, name: str) -> None:
    path = service.shell(name, "sleep 100")
    service.add_exec(name, "e1", "stty", "size", terminal=True)
    size = {"console_height": 33, "console_width": 77}
    request = Attach("e1", stdout=True, start=True, multiplexed=False, **size)
    assert read_all(hand_over(path, request)) == b"33 77\r\n"
    service.add_exec(name, "e2", "echo", "framed", terminal=True)
    framed = read_all(hand_over(path, Attach("e2", stdout=True, start=True)))
    assert framed.startswith(b"\1\0\0\0\0\0\0")
    assert frames(framed) == {1: b"framed\r\n"}  # a terminal may give a line in pieces
    service.delete(name)


def test_bad_detach_keys_are_refused(service: Service, name: str) -> None:
    path = service.shell(name, "sleep 100")
    with pytest.raises(InvalidParameter, match="Invalid detach keys"):
        hand_over(path, Attach(stdout=True, detach_keys="nosuch"))
    service.delete(name)


def test_attach_with_logs_has_no_seam(service: Service, name: str) -> None:
    script = "i=0; while [ $i -lt 30000 ]; do echo line $i; printf half; printf 'way\n'; i=$((i+1)); done"
    path = service.shell(name, f"{service.gate(name)}; {script}")
    expected = b"".join(b"line %d\nhalfway\n" % number for number in range(30000))
    connections = [hand_over(path, Attach(logs=True, stdout=True))]
    service.open_gate(name)
    while service.call("State", pb.StateRequest(id=name)).status == pb.RUNNING and len(connections) < 20:
        connections.append(hand_over(path, Attach(logs=True, stdout=True)))
        time.sleep(0.005)
    for connection in connections:
        assert frames(read_all(connection))[1] == expected
    service.delete(name)


def test_attach_to_logs_alone(service: Service, name: str) -> None:
    path = service.shell(name, "echo out; echo err >&2; exit 2")
    service.wait(name)
    request = Attach(logs=True, stream=False, stderr=True)
    assert frames(read_all(hand_over(path, request))) == {2: b"err\n"}
    service.delete(name)


def test_follow_to_the_end(service: Service, name: str) -> None:
    path = service.shell(name, f"echo tick 1; {service.gate(name)}; echo tick 2; sleep 0.1; echo tick 3")
    wait_for(lambda: service.log_path(name).read_bytes().endswith(b"\n"))
    raw = hand_over(path, ReadLogs(follow=True, multiplexed=False))
    last = hand_over(path, ReadLogs(follow=True, multiplexed=False, tail=0))
    chunked = hand_over(path, ReadLogs(follow=True, multiplexed=False), chunked=True)
    service.open_gate(name)
    assert read_all(raw) == b"tick 1\ntick 2\ntick 3\n"
    assert read_all(last) == b"tick 2\ntick 3\n"
    assert b"".join(chunks(read_all(chunked))) == b"tick 1\ntick 2\ntick 3\n"
    service.delete(name)


def chunks(data: bytes) -> Iterator[bytes]:
    """Of a body in HTTP's chunked coding, which is whole."""
    while data != b"0\r\n\r\n":
        size, _, rest = data.partition(b"\r\n")
        length = int(size, 16)
        yield rest[:length]
        assert rest[length : length + 2] == b"\r\n"
        data = rest[length + 2 :]


def test_without_follow_it_ends_at_once(service: Service, name: str) -> None:
    path = service.shell(name, "seq 100; sleep 100")
    wait_for(lambda: service.log_path(name).read_bytes().count(b"\n") == 100)
    shown = read_all(hand_over(path, ReadLogs(multiplexed=False, tail=3)))
    assert shown == b"98\n99\n100\n"
    service.delete(name)


def test_followers_see_every_rotation(service: Service, name: str) -> None:
    path = service.prepare(name, options={"max-size": "20k", "max-file": "30"})
    service.create(name, "sh", "-c", "seq 5000; sleep 0.1; seq 5001 6000")
    quick = [hand_over(path, ReadLogs(follow=True, multiplexed=False)) for _ in range(3)]
    service.start_task(name)
    expected = b"".join(b"%d\n" % number for number in range(1, 6001))
    for connection in quick:
        assert read_all(connection) == expected
    service.delete(name)


def test_compression_loses_nothing(service: Service, name: str) -> None:
    """Files fill faster than they are compressed."""
    path = service.prepare(name, driver="local", options={"max-size": "100k", "max-file": "200"})
    service.create(name, "seq", "100000")
    service.start_task(name)
    assert service.wait(name) == 0
    shown = read_all(hand_over(path, ReadLogs(multiplexed=False)))
    assert shown == b"".join(b"%d\n" % number for number in range(1, 100001))
    service.delete(name)


def test_many_followers(service: Service, name: str) -> None:
    path = service.shell(name, "sleep 2; for i in 1 2 3; do echo tick $i; sleep 0.1; done")
    followers = [hand_over(path, ReadLogs(follow=True, multiplexed=False)) for _ in range(500)]
    assert service.wait(name) == 0
    for connection in followers:
        assert read_all(connection) == b"tick 1\ntick 2\ntick 3\n"
    service.delete(name)


def test_until_ends_a_follow(service: Service, name: str) -> None:
    path = service.shell(name, "while :; do echo x; sleep 0.05; done")
    wait_for(lambda: service.log_path(name).read_bytes().count(b"\n") >= 4)
    until = time.time_ns() + 500_000_000
    shown = read_all(hand_over(path, ReadLogs(follow=True, until=until, multiplexed=False)))
    assert shown.count(b"x\n") >= 4
    service.delete(name)


def test_no_log_no_reading(service: Service, name: str) -> None:
    path = service.shell(name, "sleep 100", driver="none")
    with pytest.raises(Unimplemented, match="configured logging driver does not support reading"):
        hand_over(path, ReadLogs())
    service.delete(name)


def test_the_log_of_a_fast_writer_ends_and_the_attach_begins(service: Service, name: str) -> None:
    """A slow client gets what there was, and from then on the writer, which has no end, waits for it."""
    wait = "until [ $go ]; do sleep 0.01; done"  # however long the hand-over takes
    path = service.shell(name, f"trap go=1 USR1; seq 20000; {wait}; seq 20001 1000000000")
    wait_for(lambda: service.log_path(name).stat().st_size > 1 << 20)
    connection = hand_over(path, Attach(logs=True, stdout=True))
    service.call("Kill", pb.KillRequest(id=name, signal=signal.SIGUSR1))
    received = bytearray()

    def read(size: int) -> None:
        while len(received) < size:
            received.extend(connection.recv(1 << 15))
            time.sleep(0.001)

    def written() -> int:
        return service.log_path(name).stat().st_size

    def waits() -> bool:
        size = written()
        time.sleep(0.3)
        return written() == size

    read(1 << 20)  # as much as there was, and more
    wait_for(waits)
    size = written()
    while written() == size:  # until it goes on, which it does where the log ends and the attach begins
        read(len(received) + 1)
    read(len(received) + (1 << 20))
    lines = frames(bytes(received))[1].split(b"\n")
    assert lines[:-2] == [b"%d" % number for number in range(1, len(lines) - 1)]
    connection.close()
    service.delete(name)


def test_who_leaves_while_the_log_is_replayed_holds_up_nobody(service: Service, name: str) -> None:
    path = service.shell(name, "seq 300000; sleep 100")
    wait_for(lambda: service.log_path(name).stat().st_size > 1 << 20)
    connection = hand_over(path, Attach(logs=True, stdout=True))
    connection.recv(1 << 15)
    connection.close()
    wait_for(lambda: service.log_path(name).read_bytes().count(b"\n") == 300000)
    service.delete(name)


def test_a_prepared_shim_is_idle_when_its_last_client_leaves(service: Service, name: str) -> None:
    path = service.prepare(name)
    first, second = (hand_over(path, Attach(stdout=True)) for _ in range(2))
    with pytest.raises(Conflict):
        service.call("Delete", pb.DeleteRequest(id=name, idle=True))
    first.close()
    second.close()
    wait_for(lambda: idle_delete(service, name))
    assert not Path(path).exists()


def idle_delete(service: Service, name: str) -> bool:
    try:
        service.call("Delete", pb.DeleteRequest(id=name, idle=True))
    except Conflict:
        return False
    return True


def test_a_made_container_is_never_idle(service: Service, name: str) -> None:
    service.shell(name, "sleep 100")
    with pytest.raises(Conflict):
        service.call("Delete", pb.DeleteRequest(id=name, idle=True))
    service.delete(name)
