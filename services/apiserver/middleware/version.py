"""The API version of a request: the path's prefix, or the newest.

Runs after routing, like dockerd's: an unknown path is unknown under any version.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import falcon.asgi

from services.protocol.errors import InvalidParameter
from services.protocol.release import API_VERSION, MIN_API_VERSION, dotted

_PREFIX = re.compile(r"/v([0-9.]+)(/.*)", re.DOTALL)
Version = tuple[int, int]

#: Requests that older versions do not have (moby ``router.WithMinimumAPIVersion``).
_SINCE: Mapping[tuple[str, str], Version] = {
    ("POST", "/containers/prune"): (1, 25),
    ("POST", "/images/prune"): (1, 25),
    ("POST", "/networks/prune"): (1, 25),
    ("POST", "/volumes/prune"): (1, 25),
    ("POST", "/build/prune"): (1, 31),
}


def strip_version(path: str) -> tuple[str, str]:
    """(version as written or "", path without it)."""
    match = _PREFIX.fullmatch(path)
    return (match[1], match[2]) if match else ("", path)


def parse(text: str) -> Version:
    """*text* as (major, minor), compared as moby compares: missing or odd parts count as 0."""
    parts = [int(part) if part else 0 for part in text.split(".")]
    return parts[0], parts[1] if len(parts) > 1 else 0


def check(text: str) -> Version:
    """The version to answer in; raises :class:`InvalidParameter` when it is not served."""
    if not text:
        return API_VERSION
    version = parse(text)
    if version < MIN_API_VERSION:
        raise InvalidParameter(
            f"client version {text} is too old. Minimum supported API version is "
            f"{dotted(MIN_API_VERSION)}, please upgrade your client to a newer version"
        )
    if version > API_VERSION:
        raise InvalidParameter(
            f"client version {text} is too new. Maximum supported API version is {dotted(API_VERSION)}"
        )
    return version


def json_errors(text: str) -> bool:
    """Clients older than 1.24 expect errors as plain text."""
    return not text or parse(text) > (1, 23)


class VersionMiddleware:
    """Sets ``req.context.version``."""

    async def process_resource(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response, resource: object, params: dict[str, Any]
    ) -> None:
        req.context.version = check(req.context.requested_version)
        since = _SINCE.get((req.method, req.uri_template or ""), MIN_API_VERSION)
        if req.context.version < since:
            what = f"{req.method} {req.uri_template}"
            raise InvalidParameter(f"{what} requires minimum API version {dotted(since)}")

    async def process_resource_ws(
        self, req: falcon.asgi.Request, ws: Any, resource: object, params: dict[str, Any]
    ) -> None:
        req.context.version = check(req.context.requested_version)
