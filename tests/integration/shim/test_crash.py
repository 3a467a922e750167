"""No service's death is a container's death: kill -9 of each process in the middle of the work."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from pathlib import Path

import msgspec
import pytest

from reexec.command import request as ask_zygote
from services.protocol import fdpass
from services.protocol import task_pb2 as pb
from services.protocol.errors import Conflict, ErrorKind, NotFound
from services.protocol.helpers import HelperExit, HelperRequest
from services.protocol.shim import Attach, ReadLogs, StoppedLogs
from tests.harness.shims import Service, frames, hand_over, read_all, read_until, wait_for

COUNT = "i=0; while [ $i -lt {n} ]; do echo line $i; i=$((i+1)); sleep 0.005; done; exit 6"


def counted(n: int) -> bytes:
    return b"".join(b"line %d\n" % number for number in range(n))


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_service_killed_while_container_writes(own_service: Service) -> None:
    service = own_service
    path = service.prepare("c")
    # The container does not end before its exec.
    after = "until test -e /pid; do sleep 0.02; done; "
    after += "while kill -0 $(cat /pid) 2>/dev/null; do sleep 0.02; done; exit 6"
    service.create("c", "sh", "-c", COUNT.format(n=300).replace("exit 6", after))
    attached = hand_over(path, Attach(stdout=True))
    service.start_task("c")
    follower = hand_over(path, ReadLogs(follow=True, multiplexed=False))
    service.add_exec("c", "e", "sh", "-c", f"echo $$ >/p; mv /p /pid; {service.gate('c')}; exit 8")
    service.call("Start", pb.StartRequest(id="c", exec_id="e"))
    shown = read_until(attached, b"line 10\n")
    zygote = service.zygote_pid()
    service.kill()
    wait_for(lambda: not alive(zygote))
    service.open_gate("c")
    shown += read_all(attached)  # goes on without any service, to the end
    service.start()
    assert service.wait("c") == 6
    assert service.wait("c", "e") == 8
    with service.subscribed() as events:
        kept = []
        while not (event := next(events)).HasField("synchronised"):
            kept.append(event)
    ended = [(event.exit.exec_id, event.exit.exit_status) for event in kept if event.HasField("exit")]
    assert ended == [("e", 8), ("", 6)]
    assert frames(shown) == {1: counted(300)}
    assert read_all(follower) == counted(300)
    assert read_all(hand_over(path, ReadLogs(multiplexed=False))) == counted(300)
    service.delete("c")
    assert not service.shim_pids()


def test_running_container_is_found_again(own_service: Service) -> None:
    service = own_service
    path = service.run("c", "cat", open_stdin=True)
    for _ in range(2):
        service.kill()
        service.start()
    state = service.call("State", pb.StateRequest(id="c"))
    assert state.status == pb.RUNNING and alive(state.pid)
    assert service.prepare("c") == path
    connection = hand_over(path, Attach(stdin=True, stdout=True))
    connection.sendall(b"still\n")
    assert b"still\n" in read_until(connection, b"still\n")
    connection.close()
    service.delete("c")


def test_sigterm_leaves_containers(own_service: Service) -> None:
    service = own_service
    service.shell("c", "sleep 100")
    zygote = service.zygote_pid()
    service.stop()
    assert not alive(zygote)
    service.start()
    assert service.call("State", pb.StateRequest(id="c")).status == pb.RUNNING
    service.delete("c")


def test_zygote_killed(own_service: Service) -> None:
    service = own_service
    service.shell("c", "sleep 100")
    zygote = service.zygote_pid()
    os.kill(zygote, signal.SIGKILL)
    service.shell("d", "exit 4")  # forked from the next zygote
    assert service.wait("d") == 4
    assert service.zygote_pid() != zygote
    assert service.call("State", pb.StateRequest(id="c")).status == pb.RUNNING
    service.delete("c")
    service.delete("d")


def test_zygote_killed_again_and_again_while_shims_start(own_service: Service) -> None:
    service = own_service
    chance = random.Random(7)
    for number in range(10):
        victim = service.zygote_pid()
        murder = threading.Timer(chance.random() * 0.02, os.kill, (victim, signal.SIGKILL))
        murder.start()
        service.shell(f"c{number}", f"exit {number}")
        assert service.wait(f"c{number}") == number
        service.delete(f"c{number}")
        murder.join()
        wait_for(lambda: _has_another_zygote(service, victim))  # noqa: B023
    assert not service.shim_pids()


def _has_another_zygote(service: Service, victim: int) -> bool:
    try:
        return service.zygote_pid() != victim
    except (LookupError, OSError):
        return False


def test_shim_killed(own_service: Service) -> None:
    service = own_service
    service.shell("c", "sleep 100 & sleep 100")
    state = service.call("State", pb.StateRequest(id="c"))
    pids = list(service.call("Pids", pb.PidsRequest(id="c")).pids)
    with service.subscribed() as events:
        os.kill(state.shim_pid, signal.SIGKILL)
        lost = next(event for event in events if event.HasField("shim_lost"))
        ended = next(event for event in events if event.HasField("exit"))
    assert (lost.id, ended.id, ended.exit.exit_status) == ("c", "c", 137)
    wait_for(lambda: not any(alive(pid) for pid in pids))
    assert service.wait("c") == 137
    assert service.call("State", pb.StateRequest(id="c")).status == pb.STOPPED
    with pytest.raises(Conflict, match="has not been deleted"):
        service.prepare("c")
    service.kill()
    service.start()
    assert service.wait("c") == 137, "it is known as lost after a restart too"
    service.delete("c")
    assert not service.exec_root.shim_dir("c").exists()
    with pytest.raises(NotFound):
        service.wait("c")
    assert not list(Path("/sys/fs/cgroup").glob(f"*/wharfd/{service.cgroup('c')}"))


def test_shim_killed_while_no_service_runs(own_service: Service) -> None:
    service = own_service
    service.shell("c", "sleep 100")
    state = service.call("State", pb.StateRequest(id="c"))
    service.kill()
    os.kill(state.shim_pid, signal.SIGKILL)
    service.start()
    assert service.wait("c") == 137
    assert not alive(state.pid)
    service.delete("c")


def test_all_killed_at_once_while_containers_come_and_go(own_service: Service) -> None:
    service = own_service
    for number in range(4):
        service.shell(f"c{number}", COUNT.format(n=100))
    for number in range(4, 7):
        service.prepare(f"c{number}")
    os.kill(service.zygote_pid(), signal.SIGKILL)
    service.kill()
    time.sleep(0.2)
    service.start()
    for number in range(4):
        assert service.wait(f"c{number}") == 6
        shown = hand_over(service.exec_root.shim_socket(f"c{number}"), ReadLogs(multiplexed=False))
        assert read_all(shown) == counted(100)
    for task in service.call("List", pb.ListRequest()).tasks:
        service.delete(task.id)
    assert not service.shim_pids()
    assert list(service.exec_root.shims.iterdir()) == []


def test_helpers_by_fork(own_service: Service, tmp_path: Path) -> None:
    zygote = own_service.exec_root.zygote
    assert ask_zygote(zygote, "docker-init", "--", "sh", "-c", "exit 7", timeout=60).status == 7
    refused = ask_zygote(zygote, "docker-nosuch", timeout=60)
    assert refused.status == 1 and refused.failure is not None
    assert refused.failure.kind is ErrorKind.NOT_FOUND
    reader, writer = os.pipe()
    script = "echo out; exit 0"
    done = ask_zygote(zygote, "docker-init", "--", "sh", "-c", script, fds={"stdout": writer}, timeout=60)
    os.close(writer)
    with os.fdopen(reader) as file:
        assert (done, file.read()) == (HelperExit(0), "out\n")


def test_helper_ends_when_the_asker_goes(own_service: Service, tmp_path: Path) -> None:
    script = f"echo $$ > {tmp_path}/pid; exec sleep 100"
    with fdpass.connect(own_service.exec_root.zygote) as connection:
        fdpass.send(connection, HelperRequest(["docker-init", "--", "sh", "-c", script]))
        wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip())
        child = int((tmp_path / "pid").read_text())
        helper = int(Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[1])
    try:
        wait_for(lambda: not alive(helper))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)


def test_stopped_logs(own_service: Service, tmp_path: Path) -> None:
    service = own_service
    service.shell("c", "seq 1000; echo err >&2")
    service.wait("c")
    service.delete("c")

    def logs(request: ReadLogs, driver: str = "json-file", chunked: bool = True) -> bytes:
        wanted = StoppedLogs(driver, str(service.log_path("c")), {}, request)
        helper = HelperRequest(["docker-logs", msgspec.json.encode(wanted).decode()])
        return read_all(hand_over(service.exec_root.zygote, helper, head=b"HEAD", chunked=chunked))

    assert logs(ReadLogs(tail=2)).startswith(b"HEAD")
    shown = frames(logs(ReadLogs(), chunked=False)[4:])
    assert shown == {1: b"".join(b"%d\n" % n for n in range(1, 1001)), 2: b"err\n"}
    assert logs(ReadLogs(tail=1, multiplexed=False)) == b"HEAD4\r\nerr\n\r\n0\r\n\r\n"
    with pytest.raises(Exception, match="does not support reading"):
        logs(ReadLogs(), driver="none")
