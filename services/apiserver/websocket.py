"""uvicorn's websocket protocol, loaded when the first client asks for one."""

from __future__ import annotations

from uvicorn.protocols.websockets.wsproto_impl import WSProtocol as WebSocket

__all__ = ["WebSocket"]
