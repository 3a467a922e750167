"""``platform`` parameters that are OCI platforms in JSON (moby ``daemon/server/httputils``)."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from services.apiserver import gojson
from services.protocol.errors import InvalidParameter

Version = tuple[int, int]

#: API version from which several platforms may be given.
_SEVERAL = (1, 52)


class _Platform(msgspec.Struct, frozen=True):
    os: str = ""
    architecture: str = ""
    variant: str = ""
    os_version: str = msgspec.field(name="os.version", default="")
    os_features: list[str] | None = msgspec.field(name="os.features", default=None)


def decode(text: str) -> str:
    """``{"os": "linux", "architecture": "arm64"}`` as ``linux/arm64``. Raises ``InvalidParameter``."""
    if not text:
        return ""
    try:
        given = gojson.unmarshal(text.encode(), _Platform, "v1.Platform")
    except InvalidParameter as error:
        raise InvalidParameter(f"failed to parse platform: {error}") from error
    if not given.os and not given.architecture and (given.variant or given.os_version or given.os_features):
        raise InvalidParameter("optional platform fields provided, but OS and Architecture are missing")
    if not given.os or not given.architecture:
        raise InvalidParameter("both OS and Architecture must be provided")
    return "/".join(part for part in (given.os, given.architecture, given.variant) if part)


def only(texts: Sequence[str], version: Version) -> str:
    """The platform of a request that may name several: an image here has one. Raises like :func:`decode`."""
    if len(texts) > 1 and version < _SEVERAL:
        raise InvalidParameter(
            "multiple platform parameters are not supported in this API version; "
            "use API version 1.52 or later"
        )
    found = [decode(text) for text in texts]
    if len(found) > 1:
        raise InvalidParameter("multiple platform parameters not supported")
    return found[0] if found else ""
