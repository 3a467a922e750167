"""``/_ping``, ``/version``, ``/info``, ``/events``, ``/system/df``, ``/auth``."""

from __future__ import annotations

import asyncio
import contextlib
import time

import msgspec
from falcon.asgi import Request, Response

from services.apiserver import body, eventfilter, headers, reply, shapes
from services.apiserver.client import Engine
from services.apiserver.events import EventHub, Follower, Numbered
from services.apiserver.exchange import Exchange
from services.apiserver.query import Query, timestamp
from services.apiserver.views import system as views
from services.protocol.errors import InvalidParameter
from services.protocol.verbs import Nothing
from services.protocol.verbs import images as image_verbs
from services.protocol.verbs import system as verbs

_PING_HEADERS = {
    "Builder-Version": "2",
    "Cache-Control": "no-cache, no-store, must-revalidate",
    "Pragma": "no-cache",
    "Swarm": "inactive",
}
_SEQUENCE = "application/json-seq"
_EVENT_TYPES = ("application/jsonl", "application/x-ndjson", _SEQUENCE)
_OBJECT_TYPES = ("container", "image", "volume", "build-cache")


class AuthConfig(msgspec.Struct, frozen=True):
    """Body of ``/auth``."""

    username: str = ""
    password: str = ""
    serveraddress: str = ""
    identitytoken: str = ""


class System:
    def __init__(self, engine: Engine, events: EventHub) -> None:
        self._engine = engine
        self._events = events

    async def on_get_ping(self, req: Request, resp: Response) -> None:
        """Answered without the engine: the API is there, and what is behind it restarts by itself."""
        resp.set_headers(_PING_HEADERS)
        resp.content_type = "text/plain; charset=utf-8"
        resp.data = b"OK"

    async def on_head_ping(self, req: Request, resp: Response) -> None:
        resp.set_headers(_PING_HEADERS)
        resp.content_type = "text/plain; charset=utf-8"
        resp.set_header("Content-Length", "0")

    async def on_options_options_any(self, req: Request, resp: Response, any: str) -> None:
        resp.data = b""

    async def on_get_version(self, req: Request, resp: Response) -> None:
        version = await self._engine.call(verbs.VERSION, Nothing())
        reply.document(resp, msgspec.Raw(version))

    async def on_get_info(self, req: Request, resp: Response) -> None:
        answer = await self._engine.call(verbs.INFO, Nothing())
        info = msgspec.json.decode(answer)
        info["NEventsListener"] = self._events.followers
        reply.document(resp, views.info(info, req.context.version))

    async def on_get_df(self, req: Request, resp: Response) -> None:
        query = Query(req)
        types, verbose = query.all("type"), query.flag("verbose")
        for one in types:
            if one not in _OBJECT_TYPES:
                raise InvalidParameter(f"unknown object type: {one}")
        usage = await self._engine.call(verbs.DISK_USAGE, verbs.DiskUsageArgs(types))
        document = views.disk_usage(msgspec.json.decode(usage), req.context.version, verbose=verbose)
        reply.document(resp, document)

    async def on_post_auth(self, req: Request, resp: Response) -> None:
        given = await body.read_json(req, AuthConfig, required=True)
        shapes.server_address(given.serveraddress)
        arguments = image_verbs.AuthArgs(
            given.username, given.password, given.serveraddress, given.identitytoken
        )
        answer = await self._engine.call(image_verbs.AUTH, arguments)
        token = {"IdentityToken": answer.identity_token} if answer.identity_token else {}
        reply.document(resp, {"Status": answer.status, **token})

    async def on_get_events(self, req: Request, resp: Response) -> None:
        query = Query(req)
        since, until = _moment(query, "since"), _moment(query, "until")
        if since is not None and until is not None and since > until:
            raise InvalidParameter(
                f"`since` time ({query.text('since')}) cannot be after `until` time ({query.text('until')})"
            )
        filters = query.filters()
        legacy = req.context.version < (1, 52)
        old = req.context.version < (1, 46)
        content_type, start, end = _framing(req)
        exchange = body.exchange_of(req)

        async def write(item: Numbered) -> None:
            if old and (item.event.type_, item.event.action) == ("image", "create"):
                return  # new in 1.46
            if eventfilter.matches(filters, item.event):
                await exchange.write(start + item.json(legacy=legacy) + end)

        with self._events.follow() as follower, exchange.bound_to_client():
            await exchange.start(200, {"Content-Type": content_type})
            seen = ("", 0)
            if since is not None or until is not None:
                # 0 is open in the history, which has nothing as old as that.
                arguments = verbs.HistoryArgs(max(since or 0, 1), max(until or 0, 0))
                past = await self._engine.call(verbs.EVENTS, arguments)
                for published in past.events:
                    await write(Numbered(published))
                seen = (past.boot, past.last_seq)
            left = None if until is None else until / 1e9 - time.time()
            if left is None or left > 0:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(left):
                        await _live(exchange, follower, write, seen)
            await exchange.finish()


def _moment(query: Query, name: str) -> int | None:
    """Unix nanoseconds; None when it is not given."""
    return timestamp(f"'{name}'", query.text(name)) if query.text(name) else None


async def _live(exchange: Exchange, follower: Follower, write: object, seen: tuple[str, int]) -> None:
    """Until the caller's deadline, or the follower is cut off."""
    while (item := await follower.next()) is not None:
        if item.boot != seen[0] or item.seq > seen[1]:
            await write(item)  # type: ignore[operator]


def _framing(req: Request) -> tuple[str, bytes, bytes]:
    """Content type, and what stands before and after each event, by the ``Accept`` header."""
    chosen = headers.negotiate(req.get_header("accept") or "", _EVENT_TYPES, reply.JSON)
    return chosen, b"\x1e" if chosen == _SEQUENCE else b"", b"\n"
