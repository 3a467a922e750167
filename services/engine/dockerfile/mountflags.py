"""``RUN --mount=...``: options of the five kinds. Texts are buildkit's (``commands_runmount.go``)."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass

from services.engine.containers.values import parse_bool, ram_in_bytes
from services.engine.dockerfile.suggest import suggestion
from services.protocol.errors import InvalidParameter

TYPES = ("bind", "cache", "tmpfs", "secret", "ssh")
SHARINGS = ("shared", "private", "locked")
_WITH_OWNER = ("secret", "ssh", "cache")
_KEYS = (
    "type", "from", "source", "target", "readonly", "id", "sharing", "required", "size", "mode", "uid", "gid",
    "src", "dst", "destination", "ro", "rw", "readwrite", "env",
)  # fmt: skip
_NAMES = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly", "readwrite": "rw"}
_MAX_ID = (1 << 32) - 1


@dataclass
class RunMount:
    """``size`` in bytes, 0 for no limit; ``mode``, ``uid`` and ``gid`` None where not given."""

    type: str = "bind"
    origin: str = ""
    source: str = ""
    target: str = ""
    id: str = ""
    sharing: str = ""
    env: str = ""
    size: int = 0
    required: bool = False
    readonly: bool | None = None
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None


def check_mount(text: str) -> None:
    """What is wrong whatever variables are. Raises ``InvalidParameter``."""
    for field in _fields(text):
        key, equals, value = field.partition("=")
        if equals and key.lower() == "from" and "$" in value.rstrip("$"):
            raise InvalidParameter("'from' doesn't support variable expansion, define alias stage instead")


def parse_mount(text: str, expand: Callable[[str], str]) -> RunMount:
    """Raises ``InvalidParameter``."""
    mount = RunMount()
    for field in _fields(text):
        key, equals, value = field.partition("=")
        key = _NAMES.get(key.lower(), key.lower())
        if not equals:
            _flag(mount, key, field)
        else:
            _set(mount, key, expand(value), field)
    _validate(mount)
    return mount


def _fields(text: str) -> list[str]:
    try:
        rows = list(csv.reader([text], strict=True))
    except csv.Error as error:
        raise InvalidParameter(f"failed to parse csv mounts: {error}") from None
    if not rows or not rows[0]:
        raise InvalidParameter("failed to parse csv mounts: EOF")
    return rows[0]


def _flag(mount: RunMount, key: str, field: str) -> None:
    if key == "required":
        _only(mount, key, "secret", "ssh")
        mount.required = True
    elif key in ("readonly", "rw"):
        mount.readonly = key == "readonly"
    else:
        raise InvalidParameter(f"invalid field '{field}' must be a key=value pair")


def _only(mount: RunMount, key: str, *kinds: str) -> None:
    if mount.type not in kinds:
        raise InvalidParameter(f"unexpected key '{key}' for mount type '{mount.type}'")


def _set(mount: RunMount, key: str, value: str, field: str) -> None:
    if key in ("type", "sharing"):
        _choose(mount, key, value)
    elif key == "from":
        mount.origin = value
    elif key in ("readonly", "rw"):
        mount.readonly = _boolean(key, value) == (key == "readonly")
    elif key == "required":
        _only(mount, key, "secret", "ssh")
        mount.required = _boolean(key, value)
    elif key == "env":
        _only(mount, key, "secret")
        mount.env = value
    elif key == "size":
        _only(mount, key, "tmpfs")
        mount.size = _size(value)
    elif key in ("mode", "uid", "gid"):
        setattr(mount, key, _number(key, value))
    elif key in ("source", "target", "id"):
        setattr(mount, key, value)
    else:
        raise InvalidParameter(f"unexpected key '{key}' in '{field}'{suggestion(key, _KEYS)}")


def _choose(mount: RunMount, key: str, value: str) -> None:
    known, what = (TYPES, "mount type") if key == "type" else (SHARINGS, "sharing value")
    if value.lower() not in known:
        raise InvalidParameter(f'unsupported {what} "{value}"{suggestion(value, known)}')
    setattr(mount, key, value.lower())


def _boolean(key: str, value: str) -> bool:
    try:
        return parse_bool(value)
    except ValueError:
        raise InvalidParameter(f"invalid value for {key}: {value}") from None


def _size(value: str) -> int:
    try:
        return ram_in_bytes(value)
    except ValueError:
        raise InvalidParameter(f"invalid value for size: {value}") from None


def _number(key: str, value: str) -> int:
    base = 8 if key == "mode" else 10
    if not value.isascii() or not value.isdigit() or (base == 8 and set(value) & set("89")):
        raise InvalidParameter(f"invalid value {value} for {key}")
    number = int(value, base)
    if number > _MAX_ID:
        raise InvalidParameter(f"invalid value {value} for {key}")
    return number


def _validate(mount: RunMount) -> None:
    if mount.type not in _WITH_OWNER:
        for key in ("mode", "uid", "gid"):
            if getattr(mount, key) is not None:
                raise InvalidParameter(f'{key} not allowed for "{mount.type}" type mounts')
    if mount.type == "secret":
        _validate_secret(mount)
    if mount.sharing and mount.type != "cache":
        raise InvalidParameter(f"invalid cache sharing set for {mount.type} mount")


def _validate_secret(mount: RunMount) -> None:
    if mount.origin:
        raise InvalidParameter("secret mount should not have a from")
    if mount.sharing:
        raise InvalidParameter("secret mount should not define sharing")
    if not mount.source and not mount.target and not mount.id:
        raise InvalidParameter("invalid secret mount. one of source, target required")
    if mount.source and mount.id:
        raise InvalidParameter("both source and id can't be set")
