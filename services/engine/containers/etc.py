"""The files hostname, hosts and resolv.conf of a container, in its directory on the host."""

from __future__ import annotations

import os
import socket

from services.engine.containers.model import Entry
from services.engine.containers.services import Services
from services.engine.contracts import EtcFiles


def write_files(services: Services, entry: Entry, files: EtcFiles) -> None:
    """Write all three anew, as each start does.

    Written in place: a running container that shares them (``container:<id>``) has them mounted.
    """
    directory = services.container_dir(entry.id)
    _write(directory / "hostname", hostname(entry) + "\n")
    _write(directory / "hosts", files.hosts)
    _write(directory / "resolv.conf", files.resolv_conf)


def hostname(entry: Entry) -> str:
    """What ``/etc/hostname`` says: the host's name for a container in the host's network."""
    config = entry.definition.config
    if entry.definition.host_config.network_mode == "host" and not config.hostname:
        return socket.gethostname()
    return config.hostname


def _write(path: os.PathLike[str], text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        file.write(text)
