"""A path that is not clean is redirected to its clean form, as gorilla/mux does."""

from __future__ import annotations

import posixpath
from urllib.parse import quote

import falcon.asgi


def clean(path: str) -> str:
    """Go's ``path.Clean`` of an absolute path, with its trailing slash kept."""
    if not path:
        return "/"
    out = "/" + posixpath.normpath("/" + path).lstrip("/")
    return out + "/" if path.endswith("/") and out != "/" else out


class CleanPathMiddleware:
    async def process_request(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        path = req.scope["path"]
        if "//" not in path and "/." not in path and path.startswith("/"):
            return
        cleaned = clean(path)
        if cleaned != path:
            query = req.query_string
            resp.status = falcon.HTTP_301
            resp.set_header(
                "Location", quote(cleaned, safe="/:@!$&'()*+,;=~") + ("?" + query if query else "")
            )
            resp.complete = True
