"""Attach and exec: the connection becomes a raw stream and goes to its owner.

``101 UPGRADED`` when the client asked for an upgrade, else ``200 OK`` and the raw stream behind it,
as clients before Docker 1.9 and simple ones expect.
"""

from __future__ import annotations

import logging
from http import HTTPStatus

import falcon.asgi

from services.apiserver import headers
from services.apiserver.body import exchange_of
from services.apiserver.errors import STATUS
from services.protocol.errors import WharfError
from services.protocol.verbs.containers import Stream

log = logging.getLogger(__name__)


def head(req: falcon.asgi.Request, tty: bool) -> bytes:
    if req.get_header("upgrade"):
        content_type = headers.stream_type(tty, req.context.version)
        fields = {"Content-Type": content_type, "Connection": "Upgrade", "Upgrade": "tcp"}
        return headers.head("101 UPGRADED", fields)
    return headers.head("200 OK", {"Content-Type": headers.RAW_STREAM})


async def stream(req: falcon.asgi.Request, to: Stream) -> None:
    """Upgrade and give the connection away, or write the little there is to say."""
    exchange = exchange_of(req)
    if to.handover is not None:
        await exchange.hand_over(to.handover, head(req, to.tty))
        return
    text = to.text.encode()
    await exchange.raw(head(req, to.tty) + (text if to.tty or not text else frame(1, text)))


def frame(stream: int, data: bytes) -> bytes:
    """Docker's 8-byte header (1 is stdout, 2 stderr) and *data*."""
    return bytes((stream, 0, 0, 0)) + len(data).to_bytes(4, "big") + data


def attach_error(resp: falcon.asgi.Response, error: WharfError) -> None:
    """dockerd has hijacked the connection by then: errors of attach are plain text."""
    status = STATUS[error.kind]
    log.error("Handler for an attach returned error: %s", error)
    resp.status = HTTPStatus(status)
    resp.content_type = headers.RAW_STREAM
    resp.data = f"{error}\r\n".encode()
