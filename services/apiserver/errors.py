"""Error kinds as HTTP statuses: the one table, and the bodies of errors."""

from __future__ import annotations

import logging
from typing import Any

import falcon
import falcon.asgi
import msgspec

from services.apiserver.exchange import REFUSE, ClientGone
from services.apiserver.middleware.version import json_errors, strip_version
from services.protocol import jsonlines
from services.protocol.errors import ErrorKind, NotFound, WharfError

log = logging.getLogger(__name__)

#: moby ``daemon/server/httpstatus``.
STATUS: dict[ErrorKind, int] = {
    ErrorKind.NOT_FOUND: 404,
    ErrorKind.INVALID_PARAMETER: 400,
    ErrorKind.CONFLICT: 409,
    ErrorKind.NOT_MODIFIED: 304,
    ErrorKind.UNAUTHORIZED: 401,
    ErrorKind.FORBIDDEN: 403,
    ErrorKind.UNAVAILABLE: 503,
    ErrorKind.NOT_IMPLEMENTED: 501,
    ErrorKind.DEADLINE: 504,
    ErrorKind.CANCELLED: 500,
    ErrorKind.SYSTEM: 500,
}


class _Message(msgspec.Struct):
    message: str


def body(message: str) -> bytes:
    return msgspec.json.encode(_Message(message)) + b"\n"


def stream_error(message: str) -> bytes:
    """An error in the middle of a progress stream (Docker's ``jsonmessage``)."""
    return jsonlines.error_line(message)


def answer(req: falcon.asgi.Request, resp: falcon.asgi.Response, error: WharfError) -> None:
    status = STATUS[error.kind]
    resp.status = status
    if status == 304:
        resp.data = None
        return
    requested, _ = strip_version(req.path)
    if json_errors(requested):
        resp.content_type = "application/json"
        resp.data = body(str(error))
    else:
        resp.content_type = "text/plain; charset=utf-8"
        resp.data = str(error).encode() + b"\n"


def register(app: falcon.asgi.App[Any, Any]) -> None:
    app.add_error_handler(Exception, _unexpected)
    app.add_error_handler(falcon.HTTPError, _unknown_route)
    app.add_error_handler(WharfError, _known)
    app.add_error_handler(ClientGone, _client_gone)


async def _known(
    req: falcon.asgi.Request,
    resp: falcon.asgi.Response | None,
    error: WharfError,
    params: dict[str, Any],
    ws: Any = None,
) -> None:
    if STATUS[error.kind] >= 500:
        log.error("Handler for %s %s returned error: %s", req.method, req.path, error)
    if resp is not None:
        answer(req, resp, error)
    elif ws is not None:
        await _refuse_websocket(req, ws, error)


async def _unknown_route(
    req: falcon.asgi.Request,
    resp: falcon.asgi.Response | None,
    error: falcon.HTTPError,
    params: dict[str, Any],
    ws: Any = None,
) -> None:
    if resp is not None:
        answer(req, resp, NotFound("page not found"))
    elif ws is not None:
        await _refuse_websocket(req, ws, NotFound("page not found"))


async def _refuse_websocket(req: falcon.asgi.Request, ws: Any, error: WharfError) -> None:
    """Before the handshake by an HTTP error, after it by the close code for a server's error."""
    if ws.unaccepted:
        await req.scope["extensions"][REFUSE](STATUS[error.kind], "application/json", body(str(error)))
    else:
        await ws.close(1011, str(error)[:100])


async def _client_gone(
    req: falcon.asgi.Request,
    resp: falcon.asgi.Response | None,
    error: ClientGone,
    params: dict[str, Any],
    ws: Any = None,
) -> None:
    raise error  # ends the request; nobody reads an answer


async def _unexpected(
    req: falcon.asgi.Request,
    resp: falcon.asgi.Response | None,
    error: Exception,
    params: dict[str, Any],
    ws: Any = None,
) -> None:
    log.exception("Handler for %s %s failed", req.method, req.path, exc_info=error)
    if resp is not None:
        answer(req, resp, WharfError(str(error) or type(error).__name__))
