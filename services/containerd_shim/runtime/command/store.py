"""The command line's containers: ``<root>/<id>/`` with state, a lock and the socket of ``start``."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from services.containerd_shim.runtime.container import Container, ContainerState
from services.protocol import oci
from services.protocol.errors import Conflict, InvalidParameter, NotFound

_ID = re.compile(r"[\w+.-]+\Z", re.ASCII)


class Record(msgspec.Struct):
    """``state.json``. ``created`` is RFC 3339; ``spec`` the document the container was created from."""

    container: ContainerState
    created: str
    rootfs: str
    owner: str
    spec: oci.Spec


@dataclass
class Stored:
    """A container of the store, loaded."""

    directory: Path
    record: Record

    @property
    def gate(self) -> Path:
        """On this socket the program waits for ``start``; it is gone once it has started."""
        return self.directory / "start.sock"

    def load(self) -> Container:
        return Container.load(self.record.container, self.record.spec)

    def save(self, container: Container) -> None:
        self.record.container = container.save()
        temporary = self.directory / ".state.json"
        temporary.write_bytes(msgspec.json.encode(self.record))
        os.replace(temporary, self.directory / "state.json")

    def status(self) -> str:
        """created, running, paused or stopped."""
        container = self.load()
        if not container.alive():
            return "stopped"
        if self.gate.exists():
            return "created"
        return "paused" if container.paused() else "running"

    def remove(self) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)


class Store:
    def __init__(self, root: Path) -> None:
        self.root = root

    def directory(self, container_id: str) -> Path:
        """Raises InvalidParameter for an id that is no plain file name."""
        if not _ID.match(container_id) or container_id in (".", ".."):
            raise InvalidParameter(f"invalid container ID format: {container_id!r}")
        return self.root / container_id

    def make(self, container_id: str, bundle: Path, spec: oci.Spec) -> Stored:
        """Reserve *container_id*; raises Conflict when it is taken."""
        directory = self.directory(container_id)
        self.root.mkdir(mode=0o711, parents=True, exist_ok=True)
        try:
            directory.mkdir(mode=0o711)
        except FileExistsError:
            raise Conflict("container with given ID already exists") from None
        now = time.time_ns()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now // 10**9)) + f".{now % 10**9:09d}Z"
        root = str((bundle / spec.root.path).absolute()) if spec.root else ""
        record = Record(ContainerState(container_id, str(bundle)), stamp, root, "root", spec)
        return Stored(directory, record)

    def get(self, container_id: str) -> Stored:
        """Raises NotFound."""
        directory = self.directory(container_id)
        try:
            text = (directory / "state.json").read_bytes()
        except FileNotFoundError:
            raise NotFound("container does not exist") from None
        return Stored(directory, msgspec.json.decode(text, type=Record))

    def all(self) -> list[Stored]:
        found = []
        for path in sorted(self.root.iterdir()) if self.root.is_dir() else []:
            with contextlib.suppress(NotFound, InvalidParameter):
                found.append(self.get(path.name))
        return found

    @contextlib.contextmanager
    def locked(self, container_id: str) -> Iterator[Stored]:
        """The container, while no other command changes it."""
        stored = self.get(container_id)
        fd = os.open(stored.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield self.get(container_id)
        finally:
            os.close(fd)


def read_spec(bundle: Path) -> oci.Spec:
    """The bundle's ``config.json``; raises NotFound or InvalidParameter."""
    path = bundle / "config.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=oci.Spec)
    except FileNotFoundError:
        raise NotFound("JSON specification file config.json not found") from None
    except msgspec.MsgspecError as error:
        raise InvalidParameter(f"{path}: {error}") from error
