"""Connections of clients, handed over: attach to a process, or read the log."""

from __future__ import annotations

import msgspec

from services.containerd_shim.logdrivers.base import STDERR, STDOUT
from services.containerd_shim.shim.process import Process
from services.containerd_shim.shim.task import Task
from services.containerd_shim.stdio.client import Client
from services.containerd_shim.stdio.detach import parse
from services.containerd_shim.stdio.follow import Follower
from services.protocol import task_pb2 as pb
from services.protocol.errors import Conflict, InvalidParameter, Unimplemented
from services.protocol.fdpass import HandoverEnvelope
from services.protocol.shim import HEAD_READ, Attach, ReadLogs, Stream

_decode = msgspec.msgpack.Decoder(Stream).decode


def accept(task: Task, envelope: HandoverEnvelope, fd: int) -> None:
    """Take over the connection *fd*; its head has been written when this returns.

    Raises before anything is written; *fd* is then the caller's still.
    """
    stream = _decode(envelope.payload)
    if isinstance(stream, ReadLogs):
        if task.hub is None:
            raise Unimplemented("configured logging driver does not support reading")
        client = _client(task, envelope, fd, False)
        Follower(task.hub, client, stream)
    else:
        process = _check_attach(task, stream)
        raw = process.terminal and not stream.exec_id
        client = _client(task, envelope, fd, stream.multiplexed and not raw)
        _attach(task, process, client, stream, envelope.pending)


def _client(task: Task, envelope: HandoverEnvelope, fd: int, multiplexed: bool) -> Client:
    client = Client(task.loop, fd, chunked=envelope.chunked, multiplexed=multiplexed)
    task.clients.add(client)
    client.on_closed = lambda: task.left(client)
    if envelope.head:
        client.raw(envelope.head)
    return client


def _check_attach(task: Task, attach: Attach) -> Process:
    process = task.process(attach.exec_id)
    if attach.detach_keys:
        parse(attach.detach_keys)
    if attach.start and not attach.exec_id:
        raise InvalidParameter("only an exec is started by attaching to it")
    if attach.start and process.status != pb.PREPARED:
        raise Conflict(f"exec {attach.exec_id} is already running")
    return process


def _attach(task: Task, process: Process, client: Client, attach: Attach, pending: bytes) -> None:
    def join() -> None:
        if attach.logs and task.hub is not None:
            for stream, wanted in ((STDOUT, attach.stdout), (STDERR, attach.stderr)):
                if wanted and (rest := task.hub.sink.splitters[stream].rest):
                    client.frame(stream, rest)  # begun, and not in the log yet
        if attach.stream:
            process.streams.join(client, attach, detached, pending)
        else:
            client.end()

    def detached() -> None:
        task.events.publish(detached=pb.TaskDetached(exec_id=attach.exec_id))

    if attach.logs and task.hub is not None and not attach.exec_id:
        request = ReadLogs(
            stdout=attach.stdout,
            stderr=attach.stderr,
            multiplexed=attach.multiplexed and not process.terminal,
            delay=HEAD_READ,
        )
        caught_up = (lambda: process.streams.hold(client)) if attach.stream else None
        Follower(task.hub, client, request, finished=join, caught_up=caught_up)
        return
    join()
    if attach.start:
        if attach.console_height and attach.console_width:
            process.console_size = (attach.console_height, attach.console_width)
        try:
            task.start_exec(process)
        except Exception:
            return  # the client was told, and the exec has its exit code
