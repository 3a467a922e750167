"""``GET /containers/{id}/attach/ws``: attach for browsers.

A websocket has frames that only this process can make, so the owner of the bytes is handed one end
of a socket pair and the frames are made at the other. Output is raw, all streams in one.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any

from falcon import WebSocketDisconnected
from falcon.asgi import Request, Response, WebSocket

from services.apiserver.client import Engine
from services.apiserver.descriptors import exchange
from services.apiserver.query import Query
from services.protocol.errors import from_failure
from services.protocol.fdpass import HandoverAck, HandoverEnvelope
from services.protocol.verbs import containers as verbs

_CHUNK = 32 * 1024


class AttachWebSocket:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def on_get(self, req: Request, resp: Response, name: str) -> None:
        """A client that asks for no websocket learns first whether the container is there."""
        await self._engine.document(verbs.INSPECT, verbs.InspectArgs(name))
        resp.status = 400
        resp.content_type = "text/plain; charset=utf-8"
        resp.data = b"not websocket protocol"

    async def on_websocket(self, req: Request, ws: WebSocket, name: str) -> None:
        query = Query(req)
        args = verbs.AttachArgs(
            name,
            stdin=query.flag("stdin", True),
            stdout=query.flag("stdout", True),
            stderr=query.flag("stderr", True),
            logs=query.flag("logs"),
            stream=query.flag("stream"),
            detach_keys=query.text("detachKeys"),
            multiplexed=False,
        )
        stream = await self._engine.call(verbs.ATTACH, args)
        await ws.accept()
        if stream.handover is None:
            await ws.close()
            return
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                ours.setblocking(False)
                envelope = HandoverEnvelope(stream.handover.payload)
                ack = await exchange(stream.handover.socket, envelope, [theirs.fileno()], HandoverAck)
            if ack.failure is not None:
                raise from_failure(ack.failure)
            await _relay(ws, ours)


async def _relay(ws: WebSocket, sock: socket.socket) -> None:
    """Both directions until the container's output ends or the client goes away."""
    output = asyncio.create_task(_output(ws, sock))
    stdin = asyncio.create_task(_input(ws, sock))
    try:
        await asyncio.wait({output, stdin}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        output.cancel()
        stdin.cancel()
        await asyncio.gather(output, stdin, return_exceptions=True)


async def _output(ws: WebSocket, sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    while data := await loop.sock_recv(sock, _CHUNK):
        await ws.send_data(data)
    await ws.close()


async def _input(ws: WebSocket, sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    with contextlib.suppress(WebSocketDisconnected, OSError):
        while True:
            message: Any = await ws._receive()
            data = message.get("bytes") or (message.get("text") or "").encode()
            if message["type"] != "websocket.receive":
                return
            await loop.sock_sendall(sock, data)
