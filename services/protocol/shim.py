"""Messages of a shim's own socket, ``<exec-root>/shims/<id>/shim.sock`` (SEQPACKET, msgpack).

The task service forwards its calls here as :class:`TaskCall` and receives :class:`TaskAnswer`;
events are pushed as :class:`ShimEvent` to the connections that sent :class:`Subscribe`. A client's
connection arrives in a ``HandoverEnvelope`` whose payload is an encoded :class:`Stream`::

    task service                      shim
       | -- TaskCall(seq, method) -----> |
       | <----- TaskAnswer(seq) -------- |   any order; several calls may be open
       | -- Subscribe(since) ----------> |
       | <----- ShimEvent.. ------------ |
    apiserver
       | -- HandoverEnvelope + fd -----> |   one per connection
       | <----- HandoverAck ------------ |

``request`` and ``response`` are the protobuf messages of ``task.proto``, serialised: the shim
implements the methods, the service finds the shim.
"""

from __future__ import annotations

import msgspec

from services.protocol.errors import Failure

#: What the client of an exec reads that is started while its container is paused: runc's words.
EXEC_IN_PAUSED = (
    "OCI runtime exec failed: exec failed: "
    "cannot exec in a paused container (use --ignore-paused to override)"
)


class TaskCall(msgspec.Struct, tag="call", frozen=True):
    seq: int
    method: str
    request: bytes


class Subscribe(msgspec.Struct, tag="subscribe", frozen=True):
    """Events later than ``since`` (Unix nanoseconds) first."""

    since: int = 0


class Attach(msgspec.Struct, tag="attach", frozen=True):
    """Join a process's streams.

    ``multiplexed`` frames the output with Docker's 8-byte header (stream type, length); an init's
    terminal is always raw. ``logs`` replays the log first. ``stream`` False ends after the replay.
    ``start`` starts the exec once its streams are joined; a start error is then written to the
    stream as its last frame. ``exec_id`` empty is init.
    """

    exec_id: str = ""
    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    logs: bool = False
    stream: bool = True
    multiplexed: bool = True
    detach_keys: str = ""
    start: bool = False
    console_height: int = 0
    console_width: int = 0


#: Seconds in which a client has read the head of an attach (docker-py; dockerd opens the log meanwhile).
HEAD_READ = 0.01


class ReadLogs(msgspec.Struct, tag="logs", frozen=True):
    """Copy the container's log to the connection, following it while the container runs.

    ``since``/``until`` are Unix nanoseconds (0: none), ``tail`` lines (-1: all). A log without
    ``multiplexed`` is raw (terminal). Lines are prefixed by RFC 3339 nanosecond timestamps and by
    ``details`` (the record's attributes) where asked. ``delay`` seconds lie between the response's head
    and the first record: clients of attach lose what they read together with the head.
    """

    stdout: bool = True
    stderr: bool = True
    since: int = 0
    until: int = 0
    tail: int = -1
    follow: bool = False
    timestamps: bool = False
    details: bool = False
    multiplexed: bool = True
    delay: float = 0.0


class StoppedLogs(msgspec.Struct, frozen=True):
    """The log of a container that has no shim: ``argv[1]`` of the ``docker-logs`` helper, as JSON.

    The connection is the helper's descriptor ``client``. A file that is not there is an empty log.
    """

    driver: str
    path: str
    options: dict[str, str]
    request: ReadLogs


class TaskAnswer(msgspec.Struct, tag="answer", frozen=True):
    seq: int
    response: bytes = b""
    failure: Failure | None = None


class ShimEvent(msgspec.Struct, tag="event", frozen=True):
    """``envelope`` is a serialised ``wharfd.task.v1.Envelope``."""

    envelope: bytes


Stream = Attach | ReadLogs
