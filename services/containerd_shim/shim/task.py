"""The container: its init, its execs, and what may be done with them when.

States: prepared -> created -> running <-> paused -> stopped. Methods are those of ``task.proto``;
``methods`` maps their names. Each gets its request and a ``reply`` to be called once, now or later.

The exit of init, in this order: reaped; output read to its end and logged; recorded on disk; event.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from services.containerd_shim import state
from services.containerd_shim.logdrivers.sink import LogSink
from services.containerd_shim.loop import IN, Loop
from services.containerd_shim.runtime import spawn, user
from services.containerd_shim.runtime.container import Container, Started, Stdio
from services.containerd_shim.shim.events import EventLog
from services.containerd_shim.shim.maker import Maker, Making, load_spec
from services.containerd_shim.shim.process import Process
from services.containerd_shim.stdio.client import Client
from services.containerd_shim.stdio.follow import LogHub
from services.protocol import oci
from services.protocol import task_pb2 as pb
from services.protocol.errors import Conflict, NotFound, Unavailable, WharfError
from services.protocol.shim import EXEC_IN_PAUSED

#: Exit status of an init, and of an exec, that could not be executed for a reason without a code of its own.
START_FAILED, EXEC_FAILED = 128, 126
#: Seconds that the exit of an exec is kept when nobody deletes it.
EXEC_KEPT = 300.0


class Task:
    """``on_deleted`` is called when nothing is left of the container; *claim* is that of *directory*."""

    def __init__(
        self,
        loop: Loop,
        request: pb.StartShimRequest,
        directory: str,
        sink: LogSink | None,
        on_deleted: Callable[[], None],
        claim: int = -1,
    ) -> None:
        self.loop = loop
        self._claim = claim
        self._maker: Maker | None = None
        self.id = request.id
        self.directory = directory
        self.events = EventLog(request.id)
        self.hub = LogHub(loop, sink) if sink is not None else None
        self.init = Process(
            loop,
            "",
            terminal=request.terminal,
            open_stdin=request.open_stdin,
            once=request.stdin_once,
            sink=sink,
        )
        self.execs: dict[str, Process] = {}
        #: Clients with an open connection, also those that only take the rest of their output.
        self.clients: set[Client] = set()
        self._making: Making | None = None
        self._container: Container | None = None
        self._sink = sink
        self._on_deleted = on_deleted
        self._pids: dict[int, Process] = {}
        self._start_failed = False
        self._out_of_memory = False
        self._root = -1
        self._record = state.ShimRecord(
            id=request.id, shim_pid=os.getpid(), shim_start=state.start_time(os.getpid())
        )
        self._save()

    def _save(self) -> None:
        state.save(self.directory, self._record)

    def process(self, exec_id: str) -> Process:
        """Init or an exec; raises :class:`NotFound`."""
        if not exec_id:
            return self.init
        if exec_id not in self.execs:
            raise NotFound(f"exec {exec_id} of container {self.id} not found")
        return self.execs[exec_id]

    @property
    def never_made(self) -> bool:
        return self.init.status == pb.PREPARED and self._making is None

    def left(self, client: Client) -> None:
        """*client* has closed its connection."""
        self.clients.discard(client)
        if self.never_made and not self.clients:
            self.events.publish(idle=pb.TaskIdle())

    @property
    def bundle(self) -> str:
        return self._record.bundle

    def _load(self) -> Container | None:
        """The container, once it is made. Loaded when first needed: many a shim never needs it."""
        if self._container is None and self._making is not None:
            spec = load_spec(Path(self._making.state.bundle))
            self._container = Container.load(self._making.state, spec)
        return self._container

    def check_live(self) -> None:
        """Raises :class:`Conflict` unless init lives."""
        if self.init.status not in (pb.CREATED, pb.RUNNING, pb.PAUSED):
            raise Conflict(f"container {self.id} is not running")

    def live_container(self) -> Container:
        """The container while its init lives; raises :class:`Conflict`."""
        self.check_live()
        container = self._load()
        assert container is not None
        return container

    # Init: create, start, exit.

    def fork_maker(self) -> None:
        """Ahead of :meth:`create`, which otherwise does it."""
        if self._maker is None and self.init.status == pb.PREPARED and self._making is None:
            self._maker = Maker(self._claim)

    def create(self, request: pb.CreateTaskRequest) -> int:
        """Make the container; its init waits for :meth:`start`. Returns the pid of init."""
        if self.init.status != pb.PREPARED or self._making is not None:
            raise Conflict(f"task {self.id} already exists")

        def start(stdio: Stdio) -> Started:
            maker, self._maker = self._maker or Maker(self._claim), None
            try:
                self._making = maker.make(self.id, request, stdio)
            except Unavailable:
                self._free(Path(request.bundle))
                raise
            return self._making.started

        self.init.launch(start)
        self.init.status = pb.CREATED
        self._pids[self.init.pid] = self.init
        self._hold_root()
        if self._making is not None and self._making.oom_fd >= 0:
            self.loop.add(self._making.oom_fd, IN, lambda events: self._check_oom())
        self._record.bundle = request.bundle
        self._record.status = "created"
        self._record.pid, self._record.pid_start = self.init.pid, state.start_time(self.init.pid)
        self._save()
        return self.init.pid

    def _free(self, bundle: Path) -> None:
        """What the maker had made of the container when it was killed."""
        try:
            Container(self.id, bundle, load_spec(bundle)).free()
        except (OSError, WharfError) as error:
            print(f"what was made could not be removed: {error}", file=sys.stderr)

    def _hold_root(self) -> None:
        """Keep the root file system mounted until init is reaped, so that the unmount is the shim's.

        It writes what is dirty: init would be held up by its own limits of bytes per second.
        """
        with contextlib.suppress(OSError):  # init is gone already
            self._root = os.open(f"/proc/{self.init.pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def _let_go_of_root(self) -> None:
        if self._root >= 0:
            os.close(self._root)
            self._root = -1

    def start(self, request: pb.StartRequest) -> Process:
        """Execute init's program, or an exec whose output nobody wants."""
        if request.exec_id:
            process = self.process(request.exec_id)
            self.start_exec(process, silent=True)
            return process
        self.check_live()
        if self.init.status != pb.CREATED or self._making is None:
            raise Conflict(f"container {self.id} is already started")
        try:
            with self._making.sync as sync:
                spawn.begin(sync, request.network.SerializeToString())
        except WharfError as error:
            # Whoever asked is told; what is left of the process dies without an event of its own.
            self._start_failed = True
            self._record.exit_status = error.exit_code or START_FAILED
            signal.pidfd_send_signal(self.init.pidfd, signal.SIGKILL)
            raise
        if self._making.poststart:
            for text in self.live_container().run_poststart():
                print(text, file=sys.stderr)
        self.init.running()
        self._record.status, self._record.started_at = "running", self.init.started_at
        self._save()
        self.events.publish(start=pb.TaskStart(pid=self.init.pid))
        return self.init

    def child_exited(self, pid: int, code: int) -> None:
        """A child of the shim was reaped; most are the container's, some are the shim's own."""
        process = self._pids.pop(pid, None)
        if process is None:
            return
        if process is self.init:
            self._let_go_of_root()
            self._check_oom()
            if self._start_failed:
                code = self._record.exit_status
            process.exited(code, self._init_drained)
        else:
            process.exited(code, lambda: self._exec_stopped(process))

    def _check_oom(self) -> None:
        """If the kernel has given notice (it may still be unread), look whether it has killed.

        The notice comes before the kill is counted: a look that was too early is repeated at the exit.
        """
        if self._making is None or self._making.oom_fd < 0:
            return
        try:
            os.read(self._making.oom_fd, 4096)
            self._out_of_memory = True
        except BlockingIOError:
            if not self._out_of_memory:
                return
        if self.init.oom_killed or self.init.status not in (pb.RUNNING, pb.PAUSED):
            return
        container = self._load()
        if container is not None and container.oom_kills() > 0:
            self.init.oom_killed = True
            self.events.publish(oom=pb.TaskOOM())

    def _init_drained(self) -> None:
        self.end_log()
        init, record = self.init, self._record
        record.status = "stopped"
        record.exit_status, record.exited_at = init.exit_status, init.exited_at
        record.oom_killed = init.oom_killed
        try:
            self._save()
        except OSError as error:  # an exit is one although the disk is full
            print(f"the exit could not be recorded: {error}", file=sys.stderr)
        if not self._start_failed:
            self.events.publish(exit=_exit_of(init))
        init.stopped()

    def end_log(self) -> None:
        """Nothing more is coming: all of it is written, and those who follow it are told."""
        try:
            if self._sink is not None:
                self._sink.flush()
        except OSError as error:
            print(f"the log could not be written to its end: {error}", file=sys.stderr)
        if self.hub is not None:
            self.hub.end()
        if self._sink is not None:
            self._sink.files.close()

    # Execs.

    def check_user(self, reference: pb.UserRef) -> None:
        """Raises InvalidParameter unless an exec would find *reference* in the container's own files.

        Of a container that has just ended nothing is said: the start of the exec will tell.
        """
        self.check_live()
        try:
            root = os.open(f"/proc/{self.init.pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except (FileNotFoundError, ProcessLookupError):
            return
        try:
            user.resolve(root, reference)
        finally:
            os.close(root)

    def add_exec(self, request: pb.ExecProcessRequest) -> None:
        """Register an exec; it runs when it is started or attached to."""
        self.check_live()
        if self.init.status == pb.CREATED:
            raise Conflict(f"container {self.id} is not running")
        if request.exec_id in self.execs:
            raise Conflict(f"exec {request.exec_id} already exists")
        document = msgspec.json.decode(request.process, type=oci.Process)
        if document.oom_score_adj is None:
            document.oom_score_adj = 0
        process = Process(
            self.loop,
            request.exec_id,
            terminal=request.terminal,
            open_stdin=request.open_stdin,
            once=True,
            sink=None,
        )
        size = (request.console_height, request.console_width)
        process.console_size = size if all(size) else None
        process.begin = lambda stdio: self.live_container().exec(
            document, stdio, user=request.user, console_size=process.console_size
        )
        self.execs[request.exec_id] = process

    def start_exec(self, process: Process, *, silent: bool = False) -> None:
        """Execute a registered exec; a failure counts as its end, and is raised."""
        if process.status != pb.PREPARED or process.begin is None:
            raise Conflict(f"exec {process.exec_id} is already running")
        begin, process.begin = process.begin, None
        try:
            # Its client is attached already: what has paused or ended meanwhile is told as a failed start.
            if self.init.status == pb.PAUSED:
                raise Conflict(EXEC_IN_PAUSED)
            if self.init.status != pb.RUNNING:
                raise Conflict(f"container {self.id} is not running")
            process.launch(begin, silent=silent)
        except Exception as error:
            code = error.exit_code if isinstance(error, WharfError) else None
            process.start_error = error
            process.exited(code or EXEC_FAILED, lambda: self._exec_stopped(process))
            raise
        self._pids[process.pid] = process
        process.running()
        self.events.publish(exec_started=pb.TaskExecStarted(exec_id=process.exec_id, pid=process.pid))

    def _exec_stopped(self, process: Process) -> None:
        self.events.publish(exit=_exit_of(process))
        if process.start_error is not None:
            process.streams.write_error(str(process.start_error))
        process.stopped()
        self.loop.later(EXEC_KEPT, lambda: self.forget_exec(process))

    def forget_exec(self, process: Process) -> None:
        if self.execs.get(process.exec_id) is process:
            del self.execs[process.exec_id]
            self.events.forget_exec(process.exec_id)

    # The end.

    def delete(self, request: pb.DeleteRequest, reply: Callable[[pb.DeleteResponse], None]) -> None:
        """Of a stopped process; with ``kill`` it is killed first and the answer comes later."""
        process = self.process(request.exec_id)
        if request.idle and (self.clients or not self.never_made):
            raise Conflict(f"container {self.id} is in use")
        if process.status in (pb.PREPARED, pb.STOPPED):
            if process is self.init and self._maker is not None:
                self._maker.dismiss()
                self._maker = None
            self._delete(process, reply)
        elif request.kill:
            process.waiters.append(lambda process: self._delete(process, reply))
            if not process.exited_at:  # else its output is being read to the end
                self.kill(process, signal.SIGKILL, every=process is self.init)
        else:
            raise Conflict(f"cannot delete a running process of container {self.id}")

    def kill(self, process: Process, number: int, *, every: bool) -> None:
        """Send a signal; a paused container is resumed if the signal is to kill it."""
        if process.pidfd < 0 or process.exited_at:
            raise NotFound(f"process of container {self.id} already finished")
        if every and process is self.init:
            self.live_container().kill(number, True)
        else:
            signal.pidfd_send_signal(process.pidfd, number)
        if process is not self.init:
            return
        if number == signal.SIGKILL and self.init.status == pb.PAUSED:
            self.set_paused(False)

    def set_paused(self, paused: bool) -> None:
        container = self.live_container()
        if paused and self.init.status != pb.RUNNING:
            raise Conflict(f"container {self.id} is not running")
        if not paused and self.init.status != pb.PAUSED:
            raise Conflict(f"container {self.id} is not paused")
        if paused:
            container.pause()
        else:
            container.resume()
        self.init.status = pb.PAUSED if paused else pb.RUNNING

    def _delete(self, process: Process, reply: Callable[[pb.DeleteResponse], None]) -> None:
        response = pb.DeleteResponse(
            pid=process.pid, exit_status=process.exit_status, exited_at=process.exited_at
        )
        if process is not self.init:
            self.forget_exec(process)
            reply(response)
            return
        if self._making is not None and self._making.oom_fd >= 0:
            self.loop.remove(self._making.oom_fd)
            os.close(self._making.oom_fd)
            self._making.oom_fd = -1
        if (container := self._load()) is not None:
            container.destroy()
        if self.hub is not None:
            self.hub.end()
        self.init.streams.end_clients()
        shutil.rmtree(self.directory, ignore_errors=True)
        reply(response)
        self._on_deleted()


def _exit_of(process: Process) -> pb.TaskExit:
    return pb.TaskExit(
        exec_id=process.exec_id,
        pid=process.pid,
        exit_status=process.exit_status,
        exited_at=process.exited_at,
        oom_killed=process.oom_killed,
    )
