"""Bodies of requests: JSON documents read whole, archives copied to a pipe.

A body that ends early is never acted upon. falcon's own reader takes a lost client for the end of
the body, so the ASGI messages are read here.
"""

from __future__ import annotations

import os
import re
from typing import Any, TypeVar

import falcon.asgi
import msgspec

from services.apiserver import gojson
from services.apiserver.descriptors import writable
from services.apiserver.exchange import EXTENSION, BodyCutOff, ClientGone, Exchange
from services.protocol.errors import InvalidParameter

T = TypeVar("T", bound=msgspec.Struct)

#: Bytes of the largest JSON body accepted.
MAX_JSON = 16 << 20
#: RFC 2045.
_TOKEN = r"[!#$%&'*+.^_`{|}~0-9A-Za-z-]+"


def exchange_of(req: falcon.asgi.Request) -> Exchange:
    found: Exchange = req.scope["extensions"][EXTENSION]
    return found


def has_body(req: falcon.asgi.Request) -> bool:
    """Go's ``r.Body != nil && r.ContentLength != 0``."""
    return bool(req.get_header("transfer-encoding")) or bool(req.content_length)


def check_content_type(req: falcon.asgi.Request) -> None:
    """moby ``httputils.CheckForJSON``: a body must say that it is JSON."""
    content_type = req.get_header("content-type") or ""
    if not content_type:
        if not has_body(req):
            return
        raise InvalidParameter("malformed Content-Type header (): mime: no media type")
    media_type, _, parameters = content_type.partition(";")
    media_type = media_type.strip().lower()
    if problem := _malformed(media_type, parameters):
        raise InvalidParameter(f"malformed Content-Type header ({content_type}): mime: {problem}")
    if media_type != "application/json":
        raise InvalidParameter(
            f"unsupported Content-Type header ({content_type}): must be 'application/json'"
        )


def _malformed(media_type: str, parameters: str) -> str:
    """What Go's ``mime.ParseMediaType`` finds wrong."""
    if not re.match(_TOKEN, media_type):
        return "no media type"
    if re.fullmatch(f"{_TOKEN}/(?!{_TOKEN}).*", media_type):
        return "expected token after slash"
    if not re.fullmatch(f"{_TOKEN}(/{_TOKEN})?", media_type):
        return "unexpected content after media subtype"
    if not re.fullmatch(f'(\\s*{_TOKEN}=({_TOKEN}|"[^"]*")\\s*(;|$))*\\s*', parameters):
        return "invalid media parameter"
    return ""


async def chunks(req: falcon.asgi.Request) -> Any:
    """The body's pieces; raises :class:`ClientGone` when it is cut off."""
    exchange = exchange_of(req)
    more = True
    event: Any = exchange.first
    while more:
        if event is None:
            event = await exchange.receive()
        if event["type"] != "http.request":
            raise ClientGone
        more = event.get("more_body", False)
        if more and exchange.cut_off:
            raise BodyCutOff
        if event["body"]:
            yield event["body"]
        event = None


async def read(req: falcon.asgi.Request, limit: int = MAX_JSON) -> bytes:
    data = bytearray()
    try:
        async for chunk in chunks(req):
            data += chunk
            if len(data) > limit:
                raise InvalidParameter("http: request body too large")
    except BodyCutOff:
        raise InvalidParameter("invalid JSON: unexpected EOF") from None
    return bytes(data)


async def document(req: falcon.asgi.Request, *, required: bool = False) -> Any:
    """The body as parsed JSON; None when there is none and it is not *required*."""
    check_content_type(req)
    if not has_body(req) and not required:
        return None
    return gojson.decode(await read(req))


async def read_json(req: falcon.asgi.Request, kind: type[T], *, required: bool = False) -> T:
    """The body as *kind*; without one, *kind* with its defaults unless it is *required*."""
    value = await document(req, required=required)
    return kind() if value is None else gojson.convert(value, kind)


class Upload:
    """The request's body behind a pipe: ``reader`` goes to the engine, ``pump`` copies.

    When the client goes away in the middle, the engine must not take the end of the pipe for the
    end of the archive: it is left open until the engine has dropped the request.
    """

    def __init__(self, req: falcon.asgi.Request) -> None:
        self._req = req
        self.reader, self._writer = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._writer, False)

    async def pump(self) -> None:
        """Copy until the body ends, or the engine stops reading (then the rest is dropped)."""
        async for chunk in chunks(self._req):
            view = memoryview(chunk)
            while view and self._writer >= 0:
                try:
                    view = view[os.write(self._writer, view) :]
                except BlockingIOError:
                    await writable(self._writer)
                except BrokenPipeError:
                    self.close()
        self.close()

    def close(self) -> None:
        writer, self._writer = self._writer, -1
        if writer >= 0:
            os.close(writer)
