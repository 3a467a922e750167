"""Operations of images, with the engine or its helpers killed at one system call after the other.

Storage of an engine in a forked process, with a zygote of its own: a point takes a part of what it takes
with a daemon (``tests/e2e/test_crash_points.py``, whose ``WHARFD_CRASH_POINTS`` counts here, too). Afterwards
there is the old state or the new one, database and disk agree, and the operation can be done again.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
import shutil
import subprocess
import tempfile
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.protocol.errors import NotFound, WharfError
from tests.harness import crashpoints
from tests.harness.crashpoints import CALLS, CrashPoint, ThreadPoint
from tests.harness.groups import kill_group
from tests.harness.readiness import wait_until
from tests.harness.stored import Stored
from tests.harness.zygote import Zygote
from tests.integration.registry.servers import BINARY, Registry
from tests.integration.storage.operations import BASE, Engine, Operation, engine, load, operations, pulled
from tests.suites.trees import inside, listing

crashpoints.require()
pytestmark = pytest.mark.timeout(3600)

#: System calls that change the disk or ask for a helper, by the engine's thread that makes them.
_THREADS = {
    "main": ("mkdir", "rename", "write", "symlink", "unlink", "sendmsg"),
    "pool": ("mkdir", "rename", "write", "unlink", "unlinkat", "rmdir"),
    "store": ("fdatasync",),
}
#: Each call of the engine's threads; a group of the helpers'.
_VICTIMS = [*((thread, call) for thread, calls in _THREADS.items() for call in calls),
            *(("helpers", group) for group in CALLS)]  # fmt: skip


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    root = Path(tempfile.mkdtemp(prefix="wh-zygote-"))
    made = Zygote(root)
    try:
        yield made
    finally:
        made.close()
        shutil.rmtree(root)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory, zygote: Zygote) -> Iterator[Registry]:
    if BINARY is None:
        pytest.skip("there is no docker-registry")
    made = Registry(tmp_path_factory.mktemp("registry"))

    async def push(name: str) -> None:
        async with engine(_new(made.root / "pushing"), "overlay2", zygote.exec_root) as s:
            await load(s, pulled(name))
            await s.push(name)

    try:
        asyncio.run(push(f"{made.host}/pulled:1"))
        yield made
    finally:
        made.close()


def _new(root: Path) -> Path:
    (root / "containers").mkdir(parents=True)
    return root


class Trial:
    """One operation, as often as it is asked for, each time on a copy of the same data root."""

    def __init__(self, operation: Operation, driver: str, zygote: Zygote, root: Path) -> None:
        self._operation, self._driver, self._zygote = operation, driver, zygote
        self._template, self._root, self._mount_point = _new(root / "template"), root / "work", root / "mnt"
        asyncio.run(self._prepare())

    async def _prepare(self) -> None:
        async with engine(self._template, self._driver, self._zygote.exec_root) as s:
            await load(s, BASE)
            for act in self._operation.prepare:
                await act(s)
            self._old = s.state()
            await s.settled()
        self.copy()
        async with engine(self._root, self._driver, self._zygote.exec_root) as s:
            await self._operation.act(s)
            self._new = s.state()
            await s.settled()

    def copy(self) -> None:
        shutil.rmtree(self._root, ignore_errors=True)
        subprocess.run(["cp", "-a", str(self._template), str(self._root)], check=True)

    def killed(self, thread: str, call: str, number: int) -> bool:
        """Whether something was killed at this point."""
        (reading, ready), (go, writing) = os.pipe(), os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.setsid()
                asyncio.run(self._child(ready, go, settles=thread != "helpers"))
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)
        os.close(ready)
        os.close(go)
        threads = dict(zip(_THREADS, map(int, os.read(reading, 100).split()), strict=False))
        os.close(reading)
        helpers = CrashPoint(self._zygote.pid, call, number) if thread == "helpers" else None
        try:
            # Where there is no such thread (a start has no database yet), nothing is killed.
            with helpers or (ThreadPoint(threads[thread], call, number) if thread in threads
                             else contextlib.nullcontext()):  # fmt: skip
                os.write(writing, b"1")
                wait_until(lambda: self._has_ended(pid), "the engine has ended")
                reached = helpers is not None and helpers.reached
        finally:
            os.close(writing)
            status = kill_group(pid)
        assert os.WIFSIGNALED(status) or os.waitstatus_to_exitcode(status) == 0
        self._zygote.settle()
        return reached or os.WIFSIGNALED(status)

    def _has_ended(self, pid: int) -> bool:
        """Meanwhile a zygote that was killed is started again, as the task service does it."""
        self._zygote.revive()
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None

    async def _child(self, ready: int, go: int, *, settles: bool) -> None:
        """*settles*: what is removed in the background belongs to the operation. Helpers that do it are
        killed each time anew."""
        loop = asyncio.get_running_loop()
        loop.set_default_executor(concurrent.futures.ThreadPoolExecutor(1))
        threads = [os.getpid(), await asyncio.to_thread(threading.get_native_id)]
        boots = self._operation.name == "boot"

        def begin() -> None:
            os.write(ready, " ".join(map(str, threads)).encode())
            os.read(go, 1)

        if boots:
            begin()
        async with engine(self._root, self._driver, self._zygote.exec_root) as s:
            if not boots:
                threads += [one.native_id or 0 for one in threading.enumerate() if one.name == "store"]
                begin()
            with contextlib.suppress(WharfError):  # of a helper that was killed
                await self._operation.act(s)
            if settles:
                await s.settled()
            os._exit(0)

    def check(self) -> None:
        asyncio.run(self._check())

    async def _check(self) -> None:
        async with engine(self._root, self._driver, self._zygote.exec_root) as s:
            await s.settled()
            self._check_state(s.state())
            self._check_stored()
            with contextlib.suppress(*([NotFound] if self._operation.removes else [])):
                await self._operation.act(s)
            await s.images.prune({})  # an image that has not got its name, or has lost it
            await s.settled()
            again = s.state()
            if self._operation.fresh:
                assert _names(again) == _names(self._new)
            else:
                assert {name: again[name] for name in _names(again)} == {
                    name: self._new[name] for name in _names(self._new)
                }
            self._check_stored()
            await self._check_trees(s)

    def _check_state(self, now: dict[str, str]) -> None:
        for name in {*self._old, *self._new, *now}:
            expected = {self._old.get(name), self._new.get(name)}
            is_new = self._operation.fresh and name not in self._old
            assert now.get(name) in expected or is_new, f"{name}: {now.get(name)} is none of {expected}"

    def _check_stored(self) -> None:
        containers = set(os.listdir(self._root / "containers"))
        assert not (problem := Stored(self._root, self._driver, containers).problem()), problem

    async def _check_trees(self, s: Engine) -> None:
        """Containers of all images see all files."""
        for record in s.images.store:
            await s.layers.create("e" * 64, record.chain_id, {})
            seen = inside(s.layers.mounts("e" * 64), self._mount_point, listing)
            assert "/dev/console" in seen and seen.get("/0/1", seen.get("/2/1")) == "again", seen
            await s.layers.remove("e" * 64)


def _names(state: dict[str, str]) -> set[str]:
    return {name for name in state if not name.startswith("sha256:")}


@pytest.mark.parametrize(("thread", "call"), _VICTIMS, ids=lambda value: value)
@pytest.mark.parametrize("driver", ["overlay2", "vfs"])
@pytest.mark.parametrize("name", [operation.name for operation in operations("")])
def test_killed_at(
    zygote: Zygote, request: pytest.FixtureRequest, tmp_path: Path,
    name: str, driver: str, thread: str, call: str,
) -> None:  # fmt: skip
    host = request.getfixturevalue("registry").host if name.startswith(("pull", "push")) else ""
    (operation,) = (one for one in operations(host) if one.name == name)
    trial = Trial(operation, driver, zygote, tmp_path)
    for number in range(1, crashpoints.LAST + 1):
        trial.copy()
        reached = trial.killed(thread, call, number)
        try:
            trial.check()
        except (AssertionError, TimeoutError, WharfError, OSError) as error:
            raise AssertionError(f"{thread} at {call} {number}: {error}") from error
        if not reached:
            break
