"""uvicorn's websocket protocol, loaded when the first client asks for one.

A request that cannot be served is refused with an ordinary HTTP answer, as dockerd does before it
upgrades: falcon alone can only say 403.
"""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.websockets.wsproto_impl import WSProtocol

from services.apiserver import headers
from services.apiserver.exchange import REFUSE


class WebSocket(WSProtocol):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._falcon = self.app
        self.app = self._handle

    async def _handle(self, scope: Any, receive: Any, send: Any) -> None:
        refused = False

        async def refuse(status: int, content_type: str, body: bytes) -> None:
            nonlocal refused
            refused = True
            fields = [(b"Content-Type", content_type.encode()), (b"Content-Length", b"%d" % len(body))]
            start = {"status": status, "headers": headers.complete(fields)}
            await send({"type": "websocket.http.response.start", **start})
            await send({"type": "websocket.http.response.body", "body": body, "more_body": False})

        async def guarded(message: Any) -> None:
            if not refused:
                await send(message)

        scope["extensions"][REFUSE] = refuse
        await self._falcon(scope, receive, guarded)
