"""``docker-buildfind JSON``: the sources of COPY and ADD, and their checksums.

The checksums are what the build's cache compares: content, modes, owners and names, never times.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tarfile
from collections.abc import Iterator

import msgspec

from reexec.archive.rootfs import RootSpec, enter
from reexec.archive.streams import FdSource, head_of, import_decompressors
from reexec.call import Call
from reexec.helpers.patterns import compile_pattern, is_pattern
from reexec.registry import register
from services.protocol.errors import InvalidParameter


class BuildFind(msgspec.Struct, frozen=True):
    """``sources`` are paths or patterns below ``source``. With ``unpack`` archives are told apart from
    files (ADD); ``context`` tells a build context from an image, for messages.
    ``literal``: no source is a pattern."""

    source: RootSpec
    sources: list[str]
    unpack: bool = False
    context: bool = True
    literal: bool = False


class Found(msgspec.Struct, frozen=True):
    """A source: ``path`` without links, ``name`` as asked for; ``kind`` is file, dir or archive;
    ``checksum`` hex SHA-256."""

    path: str
    name: str
    kind: str
    checksum: str = ""


@register("docker-buildfind")
def main(call: Call) -> bytes:
    """The result is a list of :class:`Found`."""
    args = call.document(BuildFind)
    if args.unpack:
        import_decompressors()
    enter(args.source)
    return msgspec.msgpack.encode([_one(path, args) for path in _paths(args)])


def _paths(args: BuildFind) -> list[str]:
    found: list[str] = []
    for source in args.sources:
        clean = os.path.normpath(source.lstrip("/") or ".")
        if clean == ".." or clean.startswith("../"):
            raise InvalidParameter(f"forbidden path outside the build context: {source} ()")
        found += list(_matching(clean)) if is_pattern(source) and not args.literal else ["/" + clean]
    if not found:
        raise InvalidParameter("no source files were specified")
    return found


def _matching(pattern: str) -> Iterator[str]:
    """Paths that match, in order; what is below a match is not looked at."""
    matches, depth = compile_pattern(pattern), pattern.count("/")
    pending = [("", 0)]
    while pending:
        directory, level = pending.pop()
        below: list[tuple[str, int]] = []
        for name in sorted(os.listdir("/" + directory)):
            path = f"{directory}/{name}" if directory else name
            if matches(path):
                yield "/" + path
            elif level < depth and os.path.isdir("/" + path) and not os.path.islink("/" + path):
                below.append((path, level + 1))
        pending += reversed(below)


def _one(path: str, args: BuildFind) -> Found:
    real = os.path.realpath(path)
    if not os.path.exists(real):
        where = "file not found in build context or excluded by .dockerignore: " if args.context else ""
        raise InvalidParameter(f"{where}stat {path.lstrip('/')}: file does not exist")
    kind = "dir" if os.path.isdir(real) else "file"
    if kind == "file" and args.unpack and is_archive(real):
        kind = "archive"
    return Found(real, os.path.basename(path), kind, _tree(real) if kind == "dir" else _file(real))


def is_archive(path: str) -> bool:
    """A tar archive, compressed or not: its first header can be read. Its name does not matter."""
    if not os.path.isfile(path) or not os.path.getsize(path):
        return False
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        tarfile.TarInfo.frombuf(head_of(FdSource(fd), tarfile.BLOCKSIZE), "utf-8", "surrogateescape")
    except tarfile.TarError:
        return False
    else:
        return True
    finally:
        os.close(fd)


def _file(path: str) -> str:
    total = hashlib.sha256()
    _hash_entry(total, path, "")
    return total.hexdigest()


def _tree(top: str) -> str:
    total = hashlib.sha256()
    for directory, names, files in os.walk(top):
        names.sort()
        for name in sorted([*files, *names]):
            path = os.path.join(directory, name)
            _hash_entry(total, path, os.path.relpath(path, top))
    return total.hexdigest()


def _hash_entry(total: hashlib._Hash, path: str, name: str) -> None:
    state = os.lstat(path)
    head = f"{name}\0{state.st_mode:o}\0{state.st_uid}\0{state.st_gid}\0"
    total.update(head.encode("utf-8", "surrogateescape"))
    if stat.S_ISLNK(state.st_mode):
        total.update(os.fsencode(os.readlink(path)))
    elif stat.S_ISREG(state.st_mode):
        with open(path, "rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
