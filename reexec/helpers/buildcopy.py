"""``docker-buildcopy JSON``: COPY and ADD of a build, from one root file system into another.

Two modes. Without a target the sources are found and their checksums told: what the cache compares
(content, modes, names; neither times nor owners). With one they are copied: a child process confined
in the source's root packs, this process confined in the target's root extracts.
"""

from __future__ import annotations

import glob
import hashlib
import os
import stat

import msgspec

from reexec.archive.extract import Extractor, Options
from reexec.archive.pack import Packer
from reexec.archive.rootfs import RootSpec, enter
from reexec.archive.streams import FdSource, decompressed
from reexec.call import Call
from reexec.helpers.untar import owner_of
from reexec.registry import register
from services.protocol.errors import InvalidParameter, SystemError_

_MAGIC = (b"\x1f\x8b\x08", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd")
_USTAR_AT = 257


class BuildCopy(msgspec.Struct, frozen=True):
    """``sources`` are paths or patterns below ``source``; ``destination`` is absolute in ``target``, a
    directory when it ends in a slash. ``unpack``: with a target, the one source is an archive to be
    unpacked; without, archives are told apart from files (ADD)."""

    source: RootSpec
    sources: list[str]
    target: RootSpec | None = None
    destination: str = "/"
    owner: str = ""
    unpack: bool = False
    context: bool = True


class Found(msgspec.Struct, frozen=True):
    """A source: ``kind`` is file, dir or archive; ``checksum`` hex SHA-256."""

    path: str
    name: str
    kind: str
    checksum: str = ""


@register("docker-buildcopy")
def main(call: Call) -> int | bytes:
    args = call.document(BuildCopy)
    if args.target is None:
        enter(args.source)
        return msgspec.msgpack.encode(
            [msgspec.structs.replace(one, checksum=_checksum(one)) for one in _find(args)]
        )
    return _copy(args, args.target)


def _find(args: BuildCopy) -> list[Found]:
    """The sources, in order; raises ``InvalidParameter`` for one that is not there."""
    found: list[Found] = []
    for pattern in args.sources:
        clean = os.path.normpath("/" + pattern)
        is_pattern = any(char in pattern for char in "*?[")
        paths = sorted(glob.glob(clean)) if is_pattern else [clean]
        if is_pattern and not paths:
            continue
        for path in paths:
            found.append(_one(path, args))
    if not found:
        raise InvalidParameter("no source files were specified")
    return found


def _one(path: str, args: BuildCopy) -> Found:
    real = os.path.realpath(path)
    if not os.path.exists(real):
        where = "file not found in build context or excluded by .dockerignore: " if args.context else ""
        raise InvalidParameter(f"{where}stat {path.lstrip('/')}: file does not exist")
    name = os.path.basename(path)
    if os.path.isdir(real):
        return Found(real, name, "dir")
    return Found(real, name, "archive" if args.unpack and _is_archive(real) else "file")


def _is_archive(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            head = file.read(_USTAR_AT + 5)
    except OSError:
        return False
    return head.startswith(_MAGIC) or head[_USTAR_AT:] == b"ustar"


def _checksum(found: Found) -> str:
    total = hashlib.sha256()
    if found.kind != "dir":
        _hash_entry(total, found.path, "")
        return total.hexdigest()
    for directory, names, files in os.walk(found.path):
        names.sort()
        for name in sorted([*files, *names]):
            path = os.path.join(directory, name)
            _hash_entry(total, path, os.path.relpath(path, found.path))
    return total.hexdigest()


def _hash_entry(total: hashlib._Hash, path: str, name: str) -> None:
    state = os.lstat(path)
    total.update(f"{name}\0{state.st_mode:o}\0".encode("utf-8", "surrogateescape"))
    if stat.S_ISLNK(state.st_mode):
        total.update(os.fsencode(os.readlink(path)))
    elif stat.S_ISREG(state.st_mode):
        with open(path, "rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())


def _copy(args: BuildCopy, target: RootSpec) -> int:
    told_reading, told_writing = os.pipe()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(told_writing)
            os.close(reading)
            enter(args.source)
            _send(args, os.read(told_reading, 1) == b"d", writing)
            status = 0
        finally:
            os._exit(status)
    os.close(told_reading)
    os.close(writing)
    try:
        enter(target)
        os.umask(0)
        directory = _is_directory(args)
        os.write(told_writing, b"d" if directory else b"f")
        _receive(args, reading)
    finally:
        os.close(told_writing)
        os.close(reading)
        _, state = os.waitpid(child, 0)
    if state:
        raise SystemError_(f"copying to {args.destination} failed")
    return 0


def _is_directory(args: BuildCopy) -> bool:
    return args.destination.endswith("/") or os.path.isdir(args.destination)


class _Pipe:
    def __init__(self, fd: int) -> None:
        self._fd = fd

    def write(self, data: bytes | memoryview, /) -> int:
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]
        return len(data)


def _send(args: BuildCopy, directory: bool, fd: int) -> None:
    """An archive of the sources; with ``unpack`` the one source as it is."""
    found = _find(args)
    if args.unpack:
        with open(found[0].path, "rb") as file:
            while os.sendfile(fd, file.fileno(), None, 1 << 20):
                pass
        return
    packer = Packer(_Pipe(fd))
    destination = args.destination.strip("/")
    for one in found:
        if one.kind == "dir":
            packer.add(one.path, "")
        else:
            packer.add(one.path, one.name if directory else os.path.basename(destination))
    packer.close()


def _receive(args: BuildCopy, fd: int) -> None:
    owner = owner_of(args.owner) if args.owner else (0, 0)
    destination = os.path.normpath("/" + args.destination)
    top = destination if args.unpack or _is_directory(args) else os.path.dirname(destination)
    _make_directories(top, owner)
    source = decompressed(FdSource(fd)) if args.unpack else FdSource(fd)
    # An archive's own owners are kept, as ADD does.
    options = Options(owner=None if args.unpack and not args.owner else owner)
    Extractor(options).extract(source, os.path.realpath(top))


def _make_directories(path: str, owner: tuple[int, int]) -> None:
    if os.path.isdir(path):
        return
    _make_directories(os.path.dirname(path), owner)
    os.mkdir(path, 0o755)
    os.chown(path, *owner)
