"""Archives made in memory, and looking at a root file system from inside a mount namespace."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

import msgspec

from reexec.archive.rootfs import MountSpec, RootSpec, enter
from services.protocol import task_pb2 as pb

T = TypeVar("T")


def entry(name: str, content: bytes = b"", **attributes: object) -> tuple[tarfile.TarInfo, bytes]:
    """A regular file; *attributes* are set on the header (``type``, ``mode``, ``linkname``...)."""
    info = tarfile.TarInfo(name)
    info.mode, info.mtime, info.size = 0o644, 1_600_000_000, len(content)
    for key, value in attributes.items():
        setattr(info, key, value)
    return info, content


def directory(name: str, **attributes: object) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, **{"type": tarfile.DIRTYPE, "mode": 0o755, **attributes})


def symlink(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, type=tarfile.SYMTYPE, linkname=target)


def hardlink(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, type=tarfile.LNKTYPE, linkname=target)


def tar(*entries: tuple[tarfile.TarInfo, bytes], format: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as archive:
        for info, content in entries:
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def image_archive(
    images: Iterable[tuple[list[str], list[bytes]]], config: dict[str, object] | None = None
) -> bytes:
    """What ``docker load`` takes: (names, layers from the lowest) of each image."""
    manifest, files = [], {}
    for names, layers in images:
        paths = []
        for layer in layers:
            paths.append(digest(layer)[7:] + "/layer.tar")
            files[paths[-1]] = layer
        document = msgspec.json.encode(
            {
                "architecture": "amd64",
                "os": "linux",
                "created": "2023-11-14T22:13:20Z",
                "config": config or {"Cmd": ["sh"]},
                "rootfs": {"type": "layers", "diff_ids": [digest(layer) for layer in layers]},
                "history": [{"created": "2023-11-14T22:13:20Z", "created_by": "COPY"} for _ in layers],
            }
        )
        files[digest(document)[7:] + ".json"] = document
        manifest.append({"Config": digest(document)[7:] + ".json", "RepoTags": names, "Layers": paths})
    files["manifest.json"] = msgspec.json.encode(manifest)
    return tar(*(entry(name, content) for name, content in files.items()))


def in_child(function: Callable[[], T]) -> T:
    """The result (msgpack) of *function* in a forked process; its failure is an ``AssertionError``."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(reading)
            try:
                answer = [function(), None]
            except BaseException as error:
                answer = [None, f"{type(error).__name__}: {error}"]
            with os.fdopen(writing, "wb") as pipe:
                pipe.write(msgspec.msgpack.encode(answer))
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        data = pipe.read()
    os.waitpid(pid, 0)
    assert data, "the child died"
    result, failure = msgspec.msgpack.decode(data)
    assert failure is None, failure
    return result  # type: ignore[no-any-return]


def inside(mounts: Iterable[pb.Mount], mount_point: Path, function: Callable[[], T]) -> T:
    """*function* run with the file system of *mounts* as the root."""
    mount_point.mkdir(parents=True, exist_ok=True)
    specs = [
        MountSpec(type=m.type, source=m.source, target=m.target, options=list(m.options)) for m in mounts
    ]
    root = RootSpec(directory=str(mount_point), mounts=specs)

    def run() -> T:
        enter(root)
        return function()

    return in_child(run)


def listing(top: str = "/") -> dict[str, str]:
    """Path -> content of files, target of links, "/" of directories."""
    found: dict[str, str] = {}
    for base, directories, files in os.walk(top):
        for name in directories + files:
            path = os.path.join(base, name)
            if os.path.islink(path):
                found[path] = "-> " + os.readlink(path)
            elif os.path.isdir(path):
                found[path] = "/"
            else:
                with open(path, "rb") as file:
                    found[path] = file.read().decode()
    return found
