"""Answers: one JSON document, nothing, a stream of progress, a handed-over stream."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

import falcon.asgi
import msgspec

from services.apiserver import errors, headers
from services.apiserver.body import Upload, exchange_of
from services.protocol import jsonlines
from services.protocol.errors import WharfError
from services.protocol.fdpass import Handover

_encode = msgspec.json.encode
JSON = "application/json"


def document(resp: falcon.asgi.Response, value: Any, status: int = 200, *, html_safe: bool = False) -> None:
    """*value* as JSON with Go's trailing newline; *html_safe* as Go writes what it embeds."""
    data = jsonlines.encode(value) if html_safe else _encode(value)
    resp.status = status
    resp.content_type = JSON
    resp.data = data + b"\n"


def nothing(resp: falcon.asgi.Response, status: int = 204) -> None:
    resp.status = status
    resp.data = None if status in (204, 304) else b""


async def progress(req: falcon.asgi.Request, items: AsyncGenerator[bytes, None]) -> None:
    """Stream *items* (JSON lines) as they come.

    An error before the first is an ordinary error; later it becomes the last line.
    """
    exchange = exchange_of(req)
    started = False
    async with contextlib.aclosing(items) as lines:
        with exchange.bound_to_client():
            try:
                async for line in lines:
                    if not started:
                        await exchange.start(200, {"Content-Type": JSON})
                        started = True
                    await exchange.write(line if line.endswith(b"\n") else line + b"\r\n")
                if not started:
                    await exchange.start(200, {"Content-Type": JSON})
                await exchange.finish()
            except WharfError as error:
                if not started:
                    raise
                await exchange.finish(errors.stream_error(str(error)))


async def with_upload(req: falcon.asgi.Request, use: Callable[[int], Any]) -> None:
    """Run *use* (given the reading end of the body's pipe, which it owns) while the body is copied."""
    upload = Upload(req)
    pump = asyncio.create_task(upload.pump())
    main = asyncio.ensure_future(use(upload.reader))
    try:
        await asyncio.wait({pump, main}, return_when=asyncio.FIRST_COMPLETED)
        if pump.done() and pump.exception() is not None:
            raise pump.exception() or AssertionError
        await main
    finally:
        for task in (pump, main):
            task.cancel()
        try:
            await asyncio.gather(pump, main, return_exceptions=True)
        finally:
            upload.close()


async def hand_over(req: falcon.asgi.Request, to: Handover, fields: Mapping[str, str]) -> None:
    """An ordinary ``200 OK`` whose body another process writes; the connection ends with it."""
    exchange = exchange_of(req)
    chunked = not exchange.version_1_0
    framing = {"Transfer-Encoding": "chunked"} if chunked else {}
    all_fields = {**fields, "Date": headers.date().decode(), "Connection": "close", **framing}
    await exchange.hand_over(to, headers.head("200 OK", all_fields), chunked=chunked)
