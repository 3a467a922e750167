"""Errors of registries, as Docker words them (``distribution/registry/api/errcode``)."""

from __future__ import annotations

import http.client
from typing import Any

import msgspec

from reexec.distribution import challenge
from reexec.distribution.transport import Response, TransportError, finish
from services.protocol import jsonshape
from services.protocol.errors import (
    Forbidden,
    NotFound,
    SystemError_,
    Unauthorized,
    WharfError,
)


class RegistryError(Exception):
    """The registry's own refusal: ``code`` as it names it (``MANIFEST_UNKNOWN``), and both texts."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"{code.lower().replace('_', ' ')}: {message}" if code else message)
        self.status = status
        self.code = code

    def told(self) -> WharfError:
        """As an error of the taxonomy, with the text as it is."""
        if self.code in ("UNAUTHORIZED",) or (not self.code and self.status == 401):
            return Unauthorized(str(self))
        if self.code == "DENIED" or (not self.code and self.status == 403):
            return Forbidden(str(self))
        if self.code in ("MANIFEST_UNKNOWN", "NAME_UNKNOWN", "BLOB_UNKNOWN") or self.status == 404:
            return NotFound(str(self))
        if self.status >= 500 or self.status == 429:
            return TransportError(str(self))
        return SystemError_(str(self))


_DEFAULTS = {
    401: ("UNAUTHORIZED", "authentication required"),
    403: ("DENIED", "requested access to the resource is denied"),
}


def of(response: Response, missing: str = "") -> RegistryError:
    """The error that *response* carries; *missing* is the code of a 404 without one (of a HEAD)."""
    status = response.status
    data = finish(response)
    if status == 401 and (refused := _refused_token(response)):
        return RegistryError(status, *refused)
    for error in _errors(data):
        code, message = str(error.get("code") or ""), str(error.get("message") or "")
        if code:
            return RegistryError(status, code, message or code.lower().replace("_", " "))
    if status in _DEFAULTS:
        return RegistryError(status, *_DEFAULTS[status])
    if status == 404 and missing:
        return RegistryError(status, missing, missing.lower().replace("_", " "))
    reason = http.client.responses.get(status, "")
    if status == 429:
        return RegistryError(status, "TOOMANYREQUESTS", "too many requests")
    if status >= 500:
        return RegistryError(status, "", f"received unexpected HTTP status: {status} {reason}".rstrip())
    return RegistryError(status, "", f"unexpected status code {status} {reason}".rstrip())


def _refused_token(response: Response) -> tuple[str, str] | None:
    """What a token lacked (RFC 6750 section 3.1): it comes before what the body says."""
    for one in challenge.parse(", ".join(response.headers.getlist("WWW-Authenticate"))):
        if one.scheme == "bearer" and one.parameters.get("error") == "insufficient_scope":
            return _DEFAULTS[403]
        if one.scheme == "bearer" and one.parameters.get("error") == "invalid_token":
            return _DEFAULTS[401]
    return None


def _errors(data: bytes) -> list[dict[str, Any]]:
    try:
        document = jsonshape.parse(data)
    except msgspec.DecodeError:
        return []
    if not isinstance(document, dict):
        return []
    listed = document.get("errors")
    if isinstance(listed, list):
        return [error for error in listed if isinstance(error, dict)]
    if isinstance(document.get("details"), str):
        return [{"code": "UNKNOWN", "message": document["details"]}]
    return []
