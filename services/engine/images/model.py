"""Images as the engine knows them: the configuration document, its record, and their tables."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from typing import Any

import msgspec

from services.engine.images.gosyntax import go_syntax_error
from services.engine.store import Schema
from services.protocol import jsonshape
from services.protocol.api.containers import Config
from services.protocol.errors import InvalidParameter

SCHEMA = Schema(
    "images",
    (
        """CREATE TABLE images (
            id TEXT PRIMARY KEY, parent TEXT NOT NULL, last_tagged INTEGER NOT NULL);
        CREATE TABLE image_names (
            name TEXT PRIMARY KEY, image_id TEXT NOT NULL REFERENCES images(id));
        CREATE INDEX image_names_by_image ON image_names(image_id)""",
    ),
)


class RootFS(msgspec.Struct):
    type: str = "layers"
    diff_ids: list[str] = []


class History(msgspec.Struct, omit_defaults=True):
    created: str = ""
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False


class ImageConfig(msgspec.Struct, omit_defaults=True):
    """The OCI image configuration, with the fields Docker adds. Unknown ones stay in the blob."""

    architecture: str = ""
    os: str = ""
    variant: str = ""
    os_version: str = msgspec.field(name="os.version", default="")
    created: str = ""
    author: str = ""
    comment: str = ""
    docker_version: str = ""
    container: str = ""
    config: dict[str, Any] | None = None
    rootfs: RootFS = msgspec.field(default_factory=RootFS)
    history: list[History] = []


@dataclass
class Record:
    """A registered image. ``parent`` is an image id or "" (only images built here have one).

    ``last_tagged`` is Unix nanoseconds, 0 for never. ``container_config`` is ``config.config`` as the
    API's document.
    """

    id: str
    parent: str
    last_tagged: int
    config: ImageConfig
    container_config: Config
    chain_id: str
    created: float

    @property
    def labels(self) -> dict[str, str]:
        return self.container_config.labels or {}


def parse_config(blob: bytes) -> ImageConfig:
    """Raises ``InvalidParameter`` when *blob* is no image configuration."""
    try:
        raw = jsonshape.parse(blob)
        if not isinstance(raw, dict) or raw.get("rootfs") is None:
            raise InvalidParameter("invalid image JSON, no RootFS key")
        # Only the members that are read must have the right shape.
        return jsonshape.convert(raw, ImageConfig)
    except msgspec.ValidationError as error:
        raise InvalidParameter(f"invalid image configuration: {error}") from error
    except msgspec.DecodeError as error:
        raise InvalidParameter(go_syntax_error(blob)) from error


def container_config(config: ImageConfig) -> Config:
    """The image's defaults for containers. Raises ``InvalidParameter``."""
    try:
        return jsonshape.convert(config.config or {}, Config)
    except msgspec.MsgspecError as error:
        raise InvalidParameter(f"invalid image configuration: {error}") from error


_FRACTION = re.compile(r"\.(\d+)")


def unix_time(text: str) -> float:
    """Seconds since the epoch of an RFC 3339 time; Go's zero time where there is none."""
    if not text:
        return GO_ZERO
    try:
        trimmed = _FRACTION.sub(lambda match: "." + match[1][:6].ljust(6, "0"), text)
        return dt.datetime.fromisoformat(trimmed).timestamp()
    except (ValueError, OverflowError):
        return GO_ZERO


#: Go's zero ``time.Time`` (year 1) as Unix seconds.
GO_ZERO = -62135596800.0
