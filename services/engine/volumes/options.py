"""Names and options of local volumes: what is refused, and what a mount is made from.

Texts are moby's ``volume/local``.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from reexec.archive import syscalls
from services.protocol.errors import InvalidParameter, SystemError_

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
_OPTIONS = ("type", "o", "device", "size")
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?[kKmMgGtTpP]?i?[bB]?")
#: Option -> options it is nothing without, in the order they are missed.
_NEEDS = {"device": ("type",), "type": ("device",), "o": ("device", "type")}

#: mount(8) option -> (set, clear); linux/mount.h.
_FLAGS: dict[str, tuple[int, int]] = {
    "defaults": (0, 0),
    "ro": (1, 0),
    "rw": (0, 1),
    "nosuid": (2, 0),
    "suid": (0, 2),
    "nodev": (4, 0),
    "dev": (0, 4),
    "noexec": (8, 0),
    "exec": (0, 8),
    "sync": (16, 0),
    "async": (0, 16),
    "remount": (32, 0),
    "mand": (64, 0),
    "nomand": (0, 64),
    "dirsync": (128, 0),
    "noatime": (1024, 0),
    "atime": (0, 1024),
    "nodiratime": (2048, 0),
    "diratime": (0, 2048),
    "bind": (syscalls.MS_BIND, 0),
    "rbind": (syscalls.MS_BIND | syscalls.MS_REC, 0),
    "relatime": (1 << 21, 0),
    "norelatime": (0, 1 << 21),
    "strictatime": (1 << 24, 0),
    "nostrictatime": (0, 1 << 24),
}


def check_name(name: str) -> None:
    """Raises ``InvalidParameter``."""
    if len(name) == 1:
        raise InvalidParameter(
            f"create {name}: volume name is too short, names should be at least two alphanumeric characters"
        )
    if not _NAME.fullmatch(name):
        raise InvalidParameter(
            f'create {name}: "{name}" includes invalid characters for a local volume name, only '
            '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, '
            "use absolute path"
        )


def check_options(name: str, options: Mapping[str, str]) -> None:
    """Raises ``InvalidParameter``."""
    for option in options:
        if option not in _OPTIONS:
            raise InvalidParameter(f'create {name}: invalid option: "{option}"')
    if "size" in options and _bytes(name, options["size"]) > 0:
        raise InvalidParameter(f"create {name}: quota size requested but no quota support")
    for option, needed in _NEEDS.items():
        for other in needed:
            if option in options and other not in options:
                raise InvalidParameter(f'create {name}: missing required option: "{other}"')


def _bytes(name: str, text: str) -> float:
    """A size as go-units' ``RAMInBytes`` reads it; raises ``InvalidParameter``."""
    if (match := _SIZE.fullmatch(text)) is None:
        raise InvalidParameter(f"create {name}: invalid size: '{text}'")
    return float(match[1])


@dataclass(frozen=True)
class VolumeMount:
    """Arguments of mount(2)."""

    source: str
    fstype: str
    flags: int
    data: str


def resolve(options: Mapping[str, str]) -> VolumeMount:
    """The mount that *options* describe; looks up the host of ``addr=`` (blocking)."""
    device, fstype = options.get("device", ""), options.get("type", "")
    flags, data = 0, []
    for option in filter(None, options.get("o", "").split(",")):
        if option in _FLAGS:
            add, drop = _FLAGS[option]
            flags = (flags | add) & ~drop
        elif option.startswith("addr=") and (fstype.startswith("nfs") or fstype == "cifs"):
            data.append("addr=" + _address(option.removeprefix("addr=")))
        else:
            data.append(option)
    return VolumeMount(device, fstype, flags, ",".join(data))


def _address(host: str) -> str:
    try:
        return str(socket.getaddrinfo(host, None)[0][4][0])
    except OSError as error:
        raise SystemError_(
            f"error resolving passed in network volume address: lookup {host}: no such host"
        ) from error


def resolvable(options: Mapping[str, str] | None) -> Mapping[str, str]:
    """*options* if there is something to mount: a size alone is only a limit."""
    return options if options and (options.get("device") or options.get("type")) else {}


def mount(options: Mapping[str, str], target: str) -> None:
    """Make the mount of *options* on *target*; raises :class:`SystemError_` with moby's text."""
    wanted = resolve(options)
    if not wanted.source:
        raise SystemError_("missing device in volume options")
    try:
        bind = wanted.flags & syscalls.MS_BIND
        syscalls.mount(wanted.source, target, wanted.fstype, wanted.flags, wanted.data)
        if bind and wanted.flags & syscalls.MS_RDONLY:
            syscalls.mount("", target, "", wanted.flags | syscalls.MS_REMOUNT)
    except OSError as error:
        data = re.sub("password=[^,]*", "password=********", wanted.data)
        detail = f", flags: {wanted.flags:#x}" if wanted.flags else ""
        detail += f", data: {data}" if data else ""
        reason = (error.strerror or str(error)).lower()
        raise SystemError_(
            f"failed to mount local volume: mount {wanted.source}:{target}{detail}: {reason}"
        ) from error
