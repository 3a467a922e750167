"""uvicorn's websocket protocol, loaded when the first client asks for one.

A request that cannot be served is refused with an ordinary HTTP answer, as dockerd does before it
upgrades: falcon alone can only say 403.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from uvicorn.protocols.websockets.wsproto_impl import WSProtocol

from services.apiserver import headers
from services.apiserver.exchange import REFUSE

#: RFC 6455, 7.4.1.
_NORMAL = 1000


class WebSocket(WSProtocol):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._falcon = self.app
        self.app = self._handle
        self._ended = False

    def data_received(self, data: bytes) -> None:
        if self._ended:  # the client's goodbye
            self.transport.close()
        else:
            super().data_received(data)

    async def _handle(self, scope: Any, receive: Any, send: Any) -> None:
        refused = False

        async def refuse(status: int, content_type: str, body: bytes) -> None:
            nonlocal refused
            refused = True
            fields = {"Content-Type": content_type, "Content-Length": str(len(body))}
            line = f"{status} {HTTPStatus(status).phrase}"
            self.handshake_complete = self.close_sent = True
            self.transport.write(headers.head(line, fields) + body)
            self.transport.close()

        async def guarded(message: Any) -> None:
            if refused:
                return
            if message["type"] != "websocket.close":
                await send(message)
                return
            # Go's package gives no reason, and ends the stream without the client's answer.
            reason = "" if message.get("code") == _NORMAL else message.get("reason", "")
            await send({**message, "reason": reason})
            if self.close_timer is not None and self.transport.can_write_eof():
                self._ended = True
                self.transport.write_eof()

        scope["extensions"][REFUSE] = refuse
        await self._falcon(scope, receive, guarded)
