"""The shim's socket: task calls, subscriptions and handed-over connections."""

from __future__ import annotations

import os
import socket
import sys
import traceback
from collections import deque
from collections.abc import Callable

import msgspec

from services.containerd_shim.loop import IN, OUT, Loop
from services.containerd_shim.shim import methods, streams
from services.containerd_shim.shim.task import Task
from services.protocol import fdpass
from services.protocol import task_pb2 as pb
from services.protocol.errors import InvalidParameter, WharfError, to_failure
from services.protocol.fdpass import HandoverAck, HandoverEnvelope
from services.protocol.shim import ShimEvent, Subscribe, TaskAnswer, TaskCall

_decode = msgspec.msgpack.Decoder(TaskCall | Subscribe | HandoverEnvelope).decode
_encode = msgspec.msgpack.encode


class Connection:
    """One peer; what it does not take at once waits in a queue."""

    def __init__(self, server: Server, sock: socket.socket) -> None:
        self._server = server
        self._socket = sock
        self._queue: deque[bytes] = deque()
        sock.setblocking(False)
        server.loop.add(sock.fileno(), IN, self._ready)

    @property
    def idle(self) -> bool:
        return not self._queue

    def send(self, message: msgspec.Struct) -> None:
        if self._socket.fileno() < 0:
            return
        self._queue.append(_encode(message))
        if len(self._queue) == 1:
            self._flush()

    def close(self) -> None:
        if self._socket.fileno() >= 0:
            self._server.loop.remove(self._socket.fileno())
            self._socket.close()
            self._queue.clear()
            self._server.closed(self)

    def _flush(self) -> None:
        try:
            while self._queue:
                self._socket.send(self._queue[0])
                self._queue.popleft()
        except BlockingIOError:
            pass
        except OSError:
            self.close()
            return
        self._server.loop.modify(self._socket.fileno(), IN | (OUT if self._queue else 0))

    def _ready(self, events: int) -> None:
        if events & OUT:
            self._flush()
        if events & ~OUT and self._socket.fileno() >= 0:
            self._receive()

    def _receive(self) -> None:
        try:
            data, fds = fdpass.receive_raw(self._socket)
        except BlockingIOError:
            return
        except (OSError, WharfError):
            self.close()
            return
        if not data:
            self.close()
            return
        try:
            self._handle(data, fds)
        except msgspec.MsgspecError as error:
            print(f"message was not understood: {error}", file=sys.stderr)
            self.close()
        finally:
            for fd in fds:
                os.close(fd)

    def _handle(self, data: bytes, fds: list[int]) -> None:
        message = _decode(data)
        if isinstance(message, TaskCall):
            self._call(message)
        elif isinstance(message, Subscribe):
            self._server.task.events.subscribe(self, message.since, self._event)
        else:
            self._hand_over(message, fds)

    def _event(self, envelope: pb.Envelope) -> None:
        self.send(ShimEvent(envelope.SerializeToString()))

    def _call(self, message: TaskCall) -> None:
        def reply(response: bytes) -> None:
            self.send(TaskAnswer(message.seq, response))

        try:
            methods.call(self._server.task, message.method, message.request, reply)
        except Exception as error:
            if not isinstance(error, WharfError):
                traceback.print_exc(file=sys.stderr)
            self.send(TaskAnswer(message.seq, failure=to_failure(error)))

    def _hand_over(self, envelope: HandoverEnvelope, fds: list[int]) -> None:
        """Takes the first descriptor out of *fds* if all is well; the others are closed."""
        failure = None
        try:
            if not fds:
                raise InvalidParameter("a connection was handed over without its descriptor")
            streams.accept(self._server.task, envelope, fds[0])
            del fds[0]
        except Exception as error:
            if not isinstance(error, WharfError):
                traceback.print_exc(file=sys.stderr)
            failure = to_failure(error)
        self.send(HandoverAck(failure))


class Server:
    """Accepts connections until :meth:`finish`."""

    def __init__(self, loop: Loop, listener: socket.socket) -> None:
        self.loop = loop
        self.task: Task
        self._listener = listener
        self._connections: set[Connection] = set()
        self._finished: Callable[[], None] | None = None
        listener.setblocking(False)
        loop.add(listener.fileno(), IN, self._accept)

    def _accept(self, _: int) -> None:
        try:
            sock, _address = self._listener.accept()
        except OSError:
            return
        self._connections.add(Connection(self, sock))

    def closed(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if hasattr(self, "task"):
            self.task.events.unsubscribe(connection)

    def finish(self, finished: Callable[[], None]) -> None:
        """Accept nothing more; call *finished* when all that was said has been taken."""
        self.loop.remove(self._listener.fileno())
        self._listener.close()
        self._finished = finished
        self._check()

    def _check(self) -> None:
        if self._finished is None:
            return
        for connection in [each for each in self._connections if each.idle]:
            connection.close()
        if self._connections or self.task.clients:
            self.loop.later(0.02, self._check)
        else:
            self._finished()
