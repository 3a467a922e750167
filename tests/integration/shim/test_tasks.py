"""A container's life through gRPC."""

from __future__ import annotations

import signal
import time

import pytest

from services.protocol import task_pb2 as pb
from services.protocol.errors import Conflict, InvalidParameter, NotFound, WharfError
from services.protocol.shim import Attach
from tests.harness.shims import Service, frames, hand_over, read_all, wait_for


@pytest.mark.parametrize(
    ("script", "status"),
    [("exit 0", 0), ("exit 3", 3), ("kill -TERM $$; sleep 9", 143), ("exec /nosuch", 127)],
)
def test_exit_codes(service: Service, name: str, script: str, status: int) -> None:
    # As pid 1 a shell ignores what it has no handler for: a child is signalled instead.
    wrapped = f"sh -c '{script}'; exit $?" if "kill" in script else script
    service.shell(name, wrapped)
    assert service.wait(name) == status
    service.delete(name)


def test_states_and_refusals(service: Service, name: str) -> None:
    service.prepare(name)
    service.prepare(name)  # idempotent

    def status() -> int:
        return int(service.call("State", pb.StateRequest(id=name)).status)

    assert status() == pb.PREPARED
    with pytest.raises(Conflict):
        service.start_task(name)
    pid = service.create(name, "sleep", "100")
    assert status() == pb.CREATED
    with pytest.raises(Conflict, match="already exists"):
        service.create(name, "true")
    service.start_task(name)
    assert status() == pb.RUNNING
    with pytest.raises(Conflict):
        service.call("Delete", pb.DeleteRequest(id=name))
    assert list(service.call("Pids", pb.PidsRequest(id=name)).pids) == [pid]
    assert name in {task.id for task in service.call("List", pb.ListRequest()).tasks}
    service.call("Pause", pb.PauseRequest(id=name))
    assert status() == pb.PAUSED
    with pytest.raises(Conflict):
        service.add_exec(name, "e", "true")
        service.call("Start", pb.StartRequest(id=name, exec_id="e"))
    service.call("Resume", pb.ResumeRequest(id=name))
    assert service.call("Stats", pb.StatsRequest(id=name)).metrics
    connected = service.call("Connect", pb.ConnectRequest(id=name))
    assert connected.task_pid == pid and connected.socket.endswith("shim.sock")
    service.call("Kill", pb.KillRequest(id=name, signal=signal.SIGKILL))
    assert service.wait(name) == 137
    assert status() == pb.STOPPED
    with pytest.raises(NotFound, match="already finished"):
        service.call("Kill", pb.KillRequest(id=name, signal=signal.SIGKILL))
    deleted = service.call("Delete", pb.DeleteRequest(id=name))
    assert (deleted.pid, deleted.exit_status) == (pid, 137)
    with pytest.raises(NotFound, match=f"task {name} not found"):
        status()
    assert not service.exec_root.shim_dir(name).exists()


@pytest.mark.parametrize("bad", ["", "../x", "a/b", ".hidden"])
def test_ids_stay_inside_the_directory(service: Service, bad: str) -> None:
    with pytest.raises(InvalidParameter, match="invalid container id"):
        service.prepare(bad)


def test_bad_log_options_are_refused(service: Service, name: str) -> None:
    with pytest.raises(InvalidParameter, match="failed to initialize logging driver: invalid size: 'bogus'"):
        service.prepare(name, options={"max-size": "bogus"})
    assert not service.exec_root.shim_dir(name).exists()


@pytest.mark.parametrize(("program", "code"), [("/nosuch", 127), ("nosuch", 127), ("/etc/passwd", 126)])
def test_program_that_cannot_be_executed(service: Service, name: str, program: str, code: int) -> None:
    service.prepare(name)
    with pytest.raises(WharfError) as caught:
        service.create(name, program)
        service.start_task(name)
    assert caught.value.exit_code == code and program in str(caught.value)
    service.delete(name)


def test_events_in_order(service: Service, name: str) -> None:
    with service.subscribed() as stream:
        while not next(stream).HasField("synchronised"):
            pass
        service.shell(name, f"{service.gate(name)}; exit 4")
        service.add_exec(name, "e1", "sh", "-c", "exit 5")
        service.call("Start", pb.StartRequest(id=name, exec_id="e1"))
        assert service.wait(name, "e1") == 5
        service.open_gate(name)
        service.wait(name)
        seen: list[pb.Envelope] = []
        while not (seen and seen[-1].HasField("exit") and not seen[-1].exit.exec_id):
            envelope = next(stream)
            if envelope.id == name:
                seen.append(envelope)
    kinds = [envelope.WhichOneof("event") for envelope in seen]
    assert kinds == ["start", "exec_started", "exit", "exit"]
    assert [seen[2].exit.exec_id, seen[2].exit.exit_status] == ["e1", 5]
    assert [seen[3].exit.exec_id, seen[3].exit.exit_status] == ["", 4]
    assert sorted(envelope.timestamp for envelope in seen) == [envelope.timestamp for envelope in seen]
    with service.subscribed(since=time.time_ns()) as stream:
        again = []
        while not (envelope := next(stream)).HasField("synchronised"):
            again.append(envelope)
    assert seen[3] in again, "the exit of init is kept until it is deleted"
    service.delete(name)


def test_output_is_logged_before_the_exit_is_told(service: Service, name: str) -> None:
    for turn in range(5):
        service.shell(f"{name}{turn}", "seq 20000; echo end >&2")
        service.wait(f"{name}{turn}")
        assert service.log_path(f"{name}{turn}").read_bytes().count(b"\n") == 20001
        service.delete(f"{name}{turn}")


def test_out_of_memory_is_told(service: Service, name: str) -> None:
    service.shell(
        name, "exec sh -c 'head -c 100000000 /dev/zero | tr \"\\0\" x | sort'; x=$(yes)", memory=16 << 20
    )
    response = service.call("Wait", pb.WaitRequest(id=name))
    assert response.oom_killed
    service.delete(name)


def test_delete_kills_and_leaves_nothing(service: Service, name: str) -> None:
    service.shell(name, "sleep 100 & sleep 100")
    pids = service.call("Pids", pb.PidsRequest(id=name)).pids
    service.delete(name)
    assert not service.exec_root.shim_dir(name).exists()
    wait_for(lambda: not any(_alive(pid) for pid in pids))


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_execs(service: Service, name: str) -> None:
    path = service.shell(name, "sleep 100")
    service.add_exec(name, "e1", "sh", "-c", "cat; echo err >&2; exit 7", open_stdin=True)
    connection = hand_over(
        path, Attach("e1", stdin=True, stdout=True, stderr=True, start=True), pending=b"a\n"
    )
    connection.sendall(b"b\n")
    connection.shutdown(1)
    assert frames(read_all(connection)) == {1: b"a\nb\n", 2: b"err\n"}
    assert service.wait(name, "e1") == 7
    with pytest.raises(Conflict, match="already running"):
        hand_over(path, Attach("e1", stdout=True, start=True))
    deleted = service.call("Delete", pb.DeleteRequest(id=name, exec_id="e1"))
    assert deleted.exit_status == 7
    with pytest.raises(NotFound):
        service.wait(name, "e1")
    with pytest.raises(NotFound):
        hand_over(path, Attach("nosuch", stdout=True, start=True))
    service.add_exec(name, "e2", "sleep", "50")
    service.call("Start", pb.StartRequest(id=name, exec_id="e2"))
    service.call("Kill", pb.KillRequest(id=name, exec_id="e2", signal=signal.SIGTERM))
    assert service.wait(name, "e2") == 143
    service.delete(name)


def test_user_of_an_exec_is_looked_up_inside(service: Service, name: str) -> None:
    service.run(name, "sleep", "100")

    def check(user: str) -> None:
        request = pb.ExecProcessRequest(id=name, user=pb.UserRef(user=user), only_check_user=True)
        service.call("Exec", request)

    check("root:0")
    with pytest.raises(InvalidParameter, match="^unable to find user ghost: no matching entries in passwd"):
        check("ghost")
    assert not service.call("State", pb.StateRequest(id=name)).execs
    service.delete(name)


def test_exec_that_cannot_be_executed(service: Service, name: str) -> None:
    path = service.shell(name, "sleep 100")
    service.add_exec(name, "e1", "/nosuch")
    text = frames(read_all(hand_over(path, Attach("e1", stdout=True, stderr=True, start=True))))
    assert b'exec: "/nosuch": stat /nosuch: no such file or directory' in text[1]
    assert text[1].endswith(b"\r\n")
    assert service.wait(name, "e1") == 127
    service.add_exec(name, "e2", "/etc/passwd")
    with pytest.raises(WharfError) as caught:
        service.call("Start", pb.StartRequest(id=name, exec_id="e2"))
    assert caught.value.exit_code == 126
    assert service.wait(name, "e2") == 126
    service.delete(name)
