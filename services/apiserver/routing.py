"""Paths to resources, with the matching rules of dockerd's router (gorilla/mux).

Every route exists with and without a ``/v1.50`` prefix. ``{name}`` matches anything, slashes
included, so the first registered route that fits wins. A known path with another method is as
unknown as any other.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any

import falcon.asgi
from falcon.routing import CompiledRouter

from services.apiserver.middleware.version import strip_version

Responder = Callable[..., Awaitable[None]]
Found = tuple[object, dict[str, Responder], dict[str, str], str]

_FIELD = re.compile(r"{(\w+)}")
_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "WEBSOCKET")


class Router(CompiledRouter):
    """falcon's router interface (``add_route`` and ``find``); routes are grouped by first segment."""

    def __init__(self) -> None:
        super().__init__()
        self._routes: dict[str, list[tuple[re.Pattern[str], object, dict[str, Responder], str]]] = {}

    def add_route(self, uri_template: str, resource: object, **kwargs: Any) -> None:
        """Responders are ``on_<method>`` or, with ``suffix``, ``on_<method>_<suffix>``."""
        suffix = f"_{kwargs['suffix']}" if kwargs.get("suffix") else ""
        methods = {
            method: getattr(resource, f"on_{method.lower()}{suffix}")
            for method in _METHODS
            if hasattr(resource, f"on_{method.lower()}{suffix}")
        }
        if not methods:
            raise ValueError(f"{resource} answers nothing at {uri_template}")
        pattern = re.compile(_FIELD.sub(r"(?P<\1>.*)", uri_template), re.DOTALL)
        first = uri_template.split("/")[1]
        self._routes.setdefault("" if first.startswith("{") else first, []).append(
            (pattern, resource, methods, uri_template)
        )

    def find(self, uri: str, req: falcon.Request | None = None) -> Found | None:  # type: ignore[override]
        assert req is not None
        version, path = strip_version(uri)
        method = "WEBSOCKET" if getattr(req, "is_websocket", False) else req.method
        first = path.split("/", 2)[1] if "/" in path else ""
        for group in (first, "") if first else ("",):
            for pattern, resource, methods, template in self._routes.get(group, ()):
                if method in methods and (match := pattern.fullmatch(path)) is not None:
                    req.context.requested_version = version
                    return resource, methods, match.groupdict(), template
        return None
