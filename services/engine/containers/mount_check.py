"""Checks of a mount specification, with Docker's texts (moby ``validateMountConfigImpl``)."""

from __future__ import annotations

import os
import posixpath
from typing import Any

from msgspec import UNSET

from services.engine.containers.mount_modes import PROPAGATIONS
from services.protocol.api.containers import Mount, TmpfsOptions
from services.protocol.errors import InvalidParameter

_OPTIONS = {
    "bind": "BindOptions",
    "volume": "VolumeOptions",
    "image": "ImageOptions",
    "tmpfs": "TmpfsOptions",
    "cluster": "ClusterOptions",
}
_TMPFS_WORDS = frozenset({"exec", "noexec"})


def text(value: Any) -> str:
    """An optional string field; unset is ""."""
    return "" if value is UNSET else str(value)


def flag(value: Any) -> bool:
    return False if value is UNSET else bool(value)


def check_destination(path: str) -> None:
    """Absolute and not the root; the text stands without the type of the mount."""
    if posixpath.normpath(path.replace("\\", "/")) in ("/", "//"):
        raise InvalidParameter("invalid specification: destination can't be '/'")
    check_absolute(path)


def check_absolute(path: str) -> None:
    if not path.replace("\\", "/").startswith("/"):
        raise InvalidParameter(f"invalid mount path: '{path}' mount path must be absolute")


def check_mount(mount: Mount, *, source_must_exist: bool) -> None:
    """Raises ``InvalidParameter`` (``invalid mount config for type "bind": ...``)."""
    try:
        _check_target(mount)
        _check_type(mount, source_must_exist=source_must_exist)
    except InvalidParameter as error:
        raise InvalidParameter(f'invalid mount config for type "{text(mount.type_)}": {error}') from None


def _check_target(mount: Mount) -> None:
    target = text(mount.target)
    if not target:
        raise InvalidParameter("field Target must not be empty")
    check_destination(target)


def _check_type(mount: Mount, *, source_must_exist: bool) -> None:
    kind = text(mount.type_)
    if kind == "bind":
        _check_bind(mount, source_must_exist=source_must_exist)
    elif kind == "volume":
        _check_volume(mount)
    elif kind == "tmpfs":
        _check_tmpfs(mount)
    elif kind == "image":
        _check_image(mount)
    else:
        raise InvalidParameter("mount type unknown")


def _check_options(mount: Mount, kind: str) -> None:
    given = {
        "bind": mount.bind_options,
        "volume": mount.volume_options,
        "image": mount.image_options,
        "tmpfs": mount.tmpfs_options,
        "cluster": mount.cluster_options,
    }
    for other, options in given.items():
        if other != kind and options is not UNSET:
            raise InvalidParameter(f"field {_OPTIONS[other]} must not be specified")


def _check_bind(mount: Mount, *, source_must_exist: bool) -> None:
    source = text(mount.source)
    if not source:
        raise InvalidParameter("field Source must not be empty")
    options = mount.bind_options
    if options is not UNSET and (propagation := text(options.propagation)) not in PROPAGATIONS | {""}:
        raise InvalidParameter(f"invalid propagation mode: {propagation}")
    _check_options(mount, "bind")
    check_absolute(source)
    creates = options is not UNSET and flag(options.create_mountpoint)
    if source_must_exist and not creates and not os.path.exists(source):
        raise InvalidParameter(f"bind source path does not exist: {source}")


def _check_volume(mount: Mount) -> None:
    _check_options(mount, "volume")
    if mount.volume_options is UNSET or not (subpath := text(mount.volume_options.subpath)):
        return
    if not text(mount.source):
        raise InvalidParameter("must not set Subpath when using anonymous volumes")
    _check_subpath(subpath)


def _check_image(mount: Mount) -> None:
    _check_options(mount, "image")
    if not text(mount.source):
        raise InvalidParameter("field Source must not be empty")
    if mount.image_options is not UNSET and (subpath := text(mount.image_options.subpath)):
        _check_subpath(subpath)


def _check_subpath(subpath: str) -> None:
    normal = posixpath.normpath(subpath)
    if subpath.startswith("/") or normal == ".." or normal.startswith("../"):
        raise InvalidParameter("subpath must be a relative path within the volume")


def _check_tmpfs(mount: Mount) -> None:
    _check_options(mount, "tmpfs")
    if text(mount.source):
        raise InvalidParameter("field Source must not be specified")
    tmpfs_options(mount.tmpfs_options, read_only=flag(mount.read_only))


def tmpfs_options(options: Any, *, read_only: bool) -> list[str]:
    """The options of a tmpfs mount as mount(8) has them; raises ``InvalidParameter``."""
    words = ["ro"] if read_only else []
    if not isinstance(options, TmpfsOptions):
        return words
    if options.mode is not UNSET and options.mode:
        words.append(f"mode={options.mode:o}")
    if options.size_bytes is not UNSET and options.size_bytes:
        words.append(f"size={_size(options.size_bytes)}")
    for item in [] if options.options is UNSET else options.options:
        if not 1 <= len(item) <= 2:
            raise InvalidParameter("invalid option array length")
        if item[0] not in _TMPFS_WORDS:
            raise InvalidParameter(f"invalid option: {item[0]}")
        words.append("=".join(item))
    return words


def _size(size: int) -> str:
    for suffix, unit in (("g", 1 << 30), ("m", 1 << 20), ("k", 1 << 10)):
        if size % unit == 0:
            return f"{size // unit}{suffix}"
    return str(size)
