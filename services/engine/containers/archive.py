"""A container's files from outside: ``docker cp``, ``export`` and ``diff``, running or not.

What is seen is its layer, its volumes and its three files of the network, not its /proc, /dev and tmpfs
mounts. A running container has them cloned out of its own mount namespace; a stopped one is put together
from its layer and its volumes in the helper's. Archives go between the client and the helper.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import posixpath
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec

from reexec.archive.rootfs import MountSpec, RootSpec, gone
from reexec.helpers.stat import Found
from reexec.helpers.tar import Tar
from reexec.helpers.untar import Untar
from services.engine.containers.announce import announce
from services.engine.containers.model import Entry, MountKind, Status
from services.engine.containers.mounts import ETC_FILES
from services.engine.containers.services import Services
from services.engine.containers.validate.config import check_path
from services.engine.rpc import Context, Router
from services.protocol.api.containers import FilesystemChange
from services.protocol.errors import Conflict, InvalidParameter, NotFound, WharfError
from services.protocol.fdpass import Handover
from services.protocol.verbs import Nothing, Ref
from services.protocol.verbs import containers as verbs

T = TypeVar("T")

_RUNNING = (Status.RUNNING, Status.PAUSED)
#: Seconds until the end of a process that is gone is known for certain, and between two looks.
_EXIT_KNOWN, _LOOK = 30.0, 0.01


def register(router: Router, services: Services) -> None:
    """Serve the verbs of this module on *router*."""
    handlers = _Handlers(services)
    router.add(verbs.CHANGES, handlers.changes)
    router.add(verbs.EXPORT, handlers.export)
    router.add(verbs.ARCHIVE_STAT, handlers.stat)
    router.add(verbs.ARCHIVE_GET, handlers.get)
    router.add(verbs.ARCHIVE_PUT, handlers.put)


def _is_running(entry: Entry) -> bool:
    return entry.state.status in _RUNNING and entry.state.pid > 0


def absolute(path: str) -> str:
    """*path* from the root, cleaned, with a trailing "/." or "/" kept: they follow a link.

    Raises ``InvalidParameter`` for what the kernel would not look for. Source: go-archive
    ``PreserveTrailingDotOrSeparator``.
    """
    clean = posixpath.normpath("/" + path.lstrip("/"))
    check_path("lstat", clean)
    if base_name(path) == ".":
        clean = clean.rstrip("/") + "/."
    if path.endswith("/") and not clean.endswith("/"):
        clean += "/"
    return clean


def base_name(path: str) -> str:
    """Go's ``filepath.Base``, of a path that is not empty."""
    return posixpath.basename(path.rstrip("/")) or "/"


class _Handlers:
    def __init__(self, services: Services) -> None:
        self._services = services

    def _root(self, entry: Entry, *, reading: bool) -> RootSpec:
        if _is_running(entry):
            return RootSpec(pid=entry.state.pid, own_mount_only=True, keep=self._targets(entry))
        return self._services.layers.root(entry.id, self._mounts(entry), reading=reading)

    async def _in_root(
        self, ref: str, entry: Entry, work: Callable[[RootSpec], Awaitable[T]], *, reading: bool
    ) -> T:
        """Run *work* on the container's root, and again on its next one when it stopped just then.

        It is not started while *work* writes to the root of a stopped one.
        """
        deadline = time.monotonic() + _EXIT_KNOWN
        while True:
            pid = entry.state.pid if _is_running(entry) else 0
            try:
                if pid or reading:
                    return await work(self._root(entry, reading=reading))
                async with entry.runtime.lock:
                    if not _is_running(entry):
                        return await work(self._root(entry, reading=False))
            except WharfError as error:
                if self._services.registry.find(entry.id) is None:  # removed just then
                    raise NotFound(f"No such container: {ref}") from error
                if not pid or str(error) != gone(pid) or time.monotonic() > deadline:
                    raise
            await asyncio.sleep(_LOOK)

    @staticmethod
    def _targets(entry: Entry) -> list[str]:
        """Where the container has volumes and what is bound, outer ones first."""
        mounts = [one.destination for one in entry.definition.mounts if one.kind is not MountKind.TMPFS]
        return sorted({*mounts, *ETC_FILES.values()}, key=lambda target: target.count("/"))

    def _mounts(self, entry: Entry) -> list[MountSpec]:
        """Volumes and binds of a stopped container, outer ones first, and its files of the network."""
        found = []
        for mount in sorted(entry.definition.mounts, key=lambda mount: mount.destination.count("/")):
            source = mount.source
            if mount.kind is MountKind.VOLUME:
                source = self._services.volumes.get(mount.name).mountpoint
                source = posixpath.join(source, mount.subpath) if mount.subpath else source
            elif mount.kind is MountKind.IMAGE and mount.chain_id and not mount.subpath:
                (whole,) = self._services.layers.image_root(mount.chain_id).mounts
                found.append(msgspec.structs.replace(whole, target=mount.destination))
                continue
            elif mount.kind is not MountKind.BIND:
                continue
            if os.path.exists(source):
                options = ["rbind", "rw" if mount.rw else "ro"]
                found.append(MountSpec(type="bind", source=source, target=mount.destination, options=options))
        taken = {mount.target for mount in found}
        directory = self._services.container_dir(entry.id)
        for name, target in ETC_FILES.items():
            source = str(directory / name)
            if target not in taken and os.path.exists(source):  # made by the first start
                found.append(MountSpec(type="bind", source=source, target=target, options=["rbind"]))
        return found

    async def changes(self, args: Ref, _: Context) -> list[FilesystemChange]:
        entry = self._services.registry.get(args.ref)
        found = await self._services.layers.changes(entry.id)
        return [FilesystemChange(path=path, kind=kind) for kind, path in found]

    async def export(self, args: Ref, _: Context) -> Handover:
        entry = self._services.registry.get(args.ref)
        root = (await self._stat(args.ref, entry, "/", "/"))[0] if _is_running(entry) else RootSpec()
        if root.pid:
            root = RootSpec(pid=root.pid, own_mount_only=True)
        else:
            root = self._services.layers.root(entry.id, reading=True)
        attributes = {"image": entry.definition.image_reference, "name": entry.definition.name}
        attributes = {**(entry.definition.config.labels or {}), **attributes}
        self._services.events.publish("container", "export", entry.id, attributes)
        return self._services.layers.tar(Tar(root=root))

    async def _stat(self, ref: str, entry: Entry, path: str, asked: str) -> tuple[RootSpec, verbs.PathStat]:
        """What *path* is; *asked* is what the client calls it."""

        async def look(root: RootSpec) -> tuple[RootSpec, verbs.PathStat]:
            found = await self._services.layers.path_stat(root, path)
            if found is None:
                if root.pid and not _lives(root.pid):
                    raise Conflict(gone(root.pid))  # the mounts inside its root went before it was looked at
                raise NotFound(f"Could not find the file {asked} in container {ref}")
            return root, _path_stat(path, found)

        return await self._in_root(ref, entry, look, reading=True)

    async def stat(self, args: verbs.ArchiveArgs, _: Context) -> verbs.PathStat:
        entry = self._services.registry.get(args.ref)
        check_path("lstat", args.path)
        return (await self._stat(args.ref, entry, args.path, args.path))[1]

    async def get(self, args: verbs.ArchiveArgs, _: Context) -> verbs.ArchiveStream:
        entry = self._services.registry.get(args.ref)
        path = absolute(args.path)
        root, stat = await self._stat(args.ref, entry, path, args.path)
        handover = self._services.layers.tar(Tar(root=root, path=path, name=base_name(path)))
        announce(self._services, entry, "archive-path")
        return verbs.ArchiveStream(stat, handover)

    async def put(self, args: verbs.ArchivePutArgs, context: Context) -> Nothing:
        fds = await context.fds()
        try:
            entry = self._services.registry.get(args.ref)
            check_path("lstat", args.path)
            if len(fds) != 1:
                raise InvalidParameter("the request has no body")

            async def extract(root: RootSpec) -> None:
                arguments = Untar(
                    root=root,
                    path=args.path,
                    container=args.ref,
                    read_only=entry.definition.host_config.readonly_rootfs,
                    mounts={mount.destination: mount.rw for mount in entry.definition.mounts},
                    owner=(entry.definition.config.user or "0:0") if args.copy_uid_gid else "",
                    no_overwrite_dir_non_dir=args.no_overwrite_dir_non_dir,
                )
                await self._services.layers.untar(arguments, fds[0])

            await self._in_root(args.ref, entry, extract, reading=False)
            announce(self._services, entry, "extract-to-dir")
        finally:
            for fd in fds:
                os.close(fd)
        return Nothing()


def _lives(pid: int) -> bool:
    """Whether process *pid* has not ended; one that has is there until it is reaped."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except OSError:
        return False


def _path_stat(path: str, found: Found) -> verbs.PathStat:
    seconds, fraction = divmod(found.mtime, 1_000_000_000)
    text = dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S")
    text += (f".{fraction:09d}".rstrip("0") if fraction else "") + "Z"
    return verbs.PathStat(base_name(path), found.size, found.mode, text, found.link_target)
