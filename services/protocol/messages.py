"""ZeroMQ messages between API server (DEALER, SUB) and engine (ROUTER, PUB).

One request, many frames back, each frame a msgpack map; unknown fields are ignored by both sides,
so that a newer peer can talk to an older one::

    DEALER                                   ROUTER
      | -- Request(id, verb, args) ---------> |
      | <- Item(id, body) -----------------.. |   streams only, any number
      | <- Reply(id, body | failure) -------- |   exactly one, the last frame of the request
      | -- Cancel(id) ----------------------> |   client went away; a Reply(cancelled) follows

``args`` and ``body`` are msgpack of the types in :mod:`services.protocol.verbs`. A request whose
engine dies is sent again under the same id with ``attempt`` counted up: handlers are idempotent by
id. Descriptors that belong to a request are sent first, on the engine's descriptor socket, under
``ticket`` (:class:`services.protocol.fdpass.FdsEnvelope`).

On PUB, topic ``event`` carries :class:`Published`; ``seq`` has no gaps within one ``boot``.
"""

from __future__ import annotations

import msgspec

from services.protocol.api.events import Event
from services.protocol.errors import Failure

#: Raised when a change of these messages would be misread by the other side.
PROTOCOL_VERSION = 1


class Request(msgspec.Struct, tag="request", frozen=True):
    id: str
    verb: str
    args: bytes
    attempt: int = 1
    ticket: str = ""
    version: int = PROTOCOL_VERSION
    #: Unix nanoseconds of the first attempt, or a little before it.
    began: int = 0


class Cancel(msgspec.Struct, tag="cancel", frozen=True):
    id: str


class Item(msgspec.Struct, tag="item", frozen=True):
    id: str
    body: bytes


class Reply(msgspec.Struct, tag="reply", frozen=True):
    id: str
    body: bytes = b""
    failure: Failure | None = None
    version: int = PROTOCOL_VERSION


class Published(msgspec.Struct, frozen=True):
    """An event with its place: ``boot`` names the engine process, ``seq`` counts from 1."""

    boot: str
    seq: int
    event: Event


EVENT_TOPIC = b"event"
#: In an event's place: from here on the new subscriber gets every event.
GREETING = b""

ToEngine = Request | Cancel
FromEngine = Item | Reply

encode = msgspec.msgpack.encode
decode_to_engine = msgspec.msgpack.Decoder(ToEngine).decode
decode_from_engine = msgspec.msgpack.Decoder(FromEngine).decode
decode_published = msgspec.msgpack.Decoder(Published).decode
