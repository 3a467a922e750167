"""``docker-buildfind JSON``: the sources of COPY and ADD, and their checksums.

The checksums are what the build's cache compares: content, modes, owners and names, never times.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import sys
import tarfile
from collections.abc import Iterator

import msgspec

from reexec.archive.rootfs import RootSpec, enter
from reexec.archive.streams import FdSource, head_of, import_decompressors
from reexec.call import Call
from reexec.helpers.patterns import Exclusions, compile_pattern, is_pattern
from reexec.registry import register
from services.protocol.errors import InvalidParameter


class BuildFind(msgspec.Struct, frozen=True):
    """``sources`` are paths or patterns below ``source``. With ``unpack`` archives are told apart from
    files (ADD); ``context`` tells a build context from an image, for messages.
    ``literal``: no source is a pattern. What matches ``excludes`` (as ``.dockerignore``), relative to
    the directory that is copied, is no part of it. ``parents``: sources keep the path that they are
    written with, from ``/./`` on if they have that, and patterns may have ``**``."""

    source: RootSpec
    sources: list[str]
    unpack: bool = False
    context: bool = True
    literal: bool = False
    excludes: list[str] = []
    parents: bool = False


class Found(msgspec.Struct, frozen=True):
    """A source: ``path`` without links, ``name`` as asked for; ``kind`` is file, dir or archive;
    ``checksum`` hex SHA-256. With parents ``beneath`` is the path that it keeps, from directory
    ``pivot`` on."""

    path: str
    name: str
    kind: str
    checksum: str = ""
    pivot: str = ""
    beneath: str = ""


@register("docker-buildfind")
def main(call: Call) -> bytes:
    """The result is a list of :class:`Found`. Raises ``InvalidParameter`` where nothing is found."""
    args = call.document(BuildFind)
    if args.unpack:
        import_decompressors()
    enter(args.source)
    excluded = Exclusions(args.excludes)
    found = [_one(path, pivot, shown, args, excluded) for path, pivot, shown in _paths(args)]
    return msgspec.msgpack.encode([one for one in found if one is not None])


def _paths(args: BuildFind) -> list[tuple[str, str, str]]:
    """(path, pivot, path as messages have it)"""
    found: list[tuple[str, str, str]] = []
    for source in args.sources:
        pivot = ""
        if args.parents:
            before, pivoted, _ = source.partition("/./")
            pivot = "/" + _clean(before, source) if pivoted else "/"
        if is_pattern(source) and not args.literal:
            pattern = os.path.normpath(source.lstrip("/"))  # with ".." before it nothing matches
            found += [(path, pivot, path[1:]) for path in _matching(pattern, recursive=args.parents)]
        else:
            shown = source.removeprefix("/").removeprefix("./")
            found.append(("/" + _clean(source, source), pivot, shown))
    if not found:
        raise InvalidParameter("no source files were specified")
    return found


def _clean(path: str, source: str) -> str:
    clean = os.path.normpath(path.lstrip("/") or ".")
    if clean == ".." or clean.startswith("../"):
        raise InvalidParameter(f"forbidden path outside the build context: {source} ()")
    return clean


def _matching(pattern: str, *, recursive: bool) -> Iterator[str]:
    """Paths that match, in order; what is below a match is not looked at. As in dockerd's classic builder
    nothing matches a broken pattern."""
    try:
        matches = compile_pattern(pattern, recursive=recursive)
    except InvalidParameter:
        return
    depth = sys.maxsize if recursive and "**" in pattern else pattern.count("/")
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


def _one(path: str, pivot: str, shown: str, args: BuildFind, excluded: Exclusions) -> Found | None:
    """None for a file that is excluded."""
    real = os.path.realpath(path)
    try:
        os.stat(real)
    except OSError as error:
        if error.errno in (errno.ENOTDIR, errno.ELOOP):
            raise InvalidParameter(f"forbidden path outside the build context: {shown} ()") from None
        where = "file not found in build context or excluded by .dockerignore: " if args.context else ""
        raise InvalidParameter(f"{where}stat {shown}: file does not exist") from None
    kind = "dir" if os.path.isdir(real) else "file"
    beneath = os.path.relpath(path, pivot) if pivot else ""
    if kind == "file" and excluded.excludes(beneath or os.path.basename(path)):
        return None
    if kind == "file" and args.unpack and is_archive(real):
        kind = "archive"
    top = "" if beneath in ("", ".") else beneath + "/"
    checksum = _tree(real, top, excluded) if kind == "dir" else _file(real, os.path.basename(path))
    if beneath:
        checksum = _with_parents(checksum, pivot, beneath)
    return Found(real, os.path.basename(path), kind, checksum, pivot, beneath)


def parents_of(beneath: str) -> list[str]:
    """The directories above *beneath*, the topmost first, without the first of all."""
    parts = beneath.split("/")[:-1]
    return ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]


def _with_parents(checksum: str, pivot: str, beneath: str) -> str:
    total = hashlib.sha256(f"{checksum}\0{beneath}".encode("utf-8", "surrogateescape"))
    for parent in parents_of(beneath):
        total.update(f"\0{os.stat(os.path.join(pivot, parent)).st_mode:o}".encode())
    return total.hexdigest()


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


def _file(path: str, name: str) -> str:
    """*name* is what it gets in a directory: that of a link to *path*, if there is one."""
    total = hashlib.sha256()
    _hash_entry(total, path, f"{path}\0{name}")
    return total.hexdigest()


def _tree(top: str, prefix: str, excluded: Exclusions) -> str:
    """*prefix* is put before names to ask whether they are excluded."""
    total = hashlib.sha256()
    if top != "/":  # what the context's own directory is like is nobody's business
        _hash_entry(total, top, top)
    for directory, names, files in os.walk(top):
        names.sort()
        entries = sorted([*files, *names])
        for name in entries:
            path = os.path.join(directory, name)
            relative = os.path.relpath(path, top)
            if not excluded.excludes(prefix + relative):
                _hash_entry(total, path, relative)
            elif name in names and not excluded.has_exceptions:
                names.remove(name)
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
