"""``docker-buildcopy JSON``: one source of COPY or ADD, from one root file system into another.

A child process confined in the source's root packs; this process, confined in the target's root,
extracts. Neither can be led out of its root by links. Files of the context are linked where that can be.
"""

from __future__ import annotations

import os
from typing import NamedTuple

import msgspec

from reexec.archive import linking, syscalls
from reexec.archive.extract import Extractor, Options
from reexec.archive.pack import Packer
from reexec.archive.rootfs import RootSpec, enter
from reexec.archive.streams import FdSource, decompressed, import_decompressors
from reexec.call import Call
from reexec.helpers.buildfind import Found, parents_of
from reexec.helpers.modes import parse_mode
from reexec.helpers.patterns import Exclusions
from reexec.helpers.users import ids_of
from reexec.registry import register
from services.protocol.errors import SystemError_

#: Bytes of a file's name (NAME_MAX), and some.
_MAX_NAME = 4096


class BuildCopy(msgspec.Struct, frozen=True):
    """``destination`` is absolute in ``target``, a directory when it ends in a slash. Of a directory
    the content is copied, an archive is unpacked. ``owner`` is "user[:group]", "" for root; ``mode`` as
    :func:`reexec.helpers.modes.parse_mode` reads it, "" for that of the source. ``excludes`` as in
    :class:`BuildFind`. With ``anew`` what the target has at the destination does not matter: a link
    there is replaced, not followed. With ``keep_owners`` files keep the owners that they have in the
    source; directories on the way to them are root's."""

    source: RootSpec
    found: Found
    target: RootSpec
    destination: str = "/"
    owner: str = ""
    keep_owners: bool = False
    mode: str = ""
    excludes: list[str] = []
    anew: bool = False
    #: Where the changes to ``target`` are kept, by graph drivers that keep them apart.
    upper: str = ""
    #: What may be done with the source instead of copying it, where there is ``upper``.
    way: linking.Way = linking.Way.COPY


@register("docker-buildcopy")
def main(call: Call) -> int:
    args = call.document(BuildCopy)
    if _can_link(args):
        return _link(args)
    if args.found.kind == "archive":
        import_decompressors()
    told_reading, told_writing = os.pipe()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _pack_and_exit(args, told_reading, told_writing, reading, writing)
    os.close(told_reading)
    os.close(writing)
    try:
        _receive(args, told_writing, reading)
    finally:
        os.close(told_writing)
        os.close(reading)
        _, state = os.waitpid(child, 0)
    if state:
        raise SystemError_(f"reading {args.found.path} failed")
    return 0


# Without a copy ---------------------------------------------------------------------------------------


def _can_link(args: BuildCopy) -> bool:
    """Files as they are, from a directory of the build's own, which ends with the build."""
    plain = not (args.mode or args.excludes or args.anew or args.found.beneath or args.keep_owners)
    return bool(args.upper) and not args.source.mounts and args.found.kind != "archive" and plain


def _link(args: BuildCopy) -> int:
    """The place is found, and made, in the target's root; its files are put there when nobody has it
    mounted any more, by a process that is in no root and follows no links."""
    home, source, upper = (
        os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        for path in ("/proc/self/ns/mnt", args.source.directory, args.upper)
    )
    owner, top, name, _ = _place(args)
    if os.path.isdir(top):
        os.chmod(top, os.stat(top).st_mode & 0o7777)  # from here on it is in the upper directory
    syscalls.setns(home, syscalls.CLONE_NEWNS)
    try:
        target = linking.open_below(upper, top)
        way = args.way
        if args.found.kind == "dir":
            tree = linking.open_below(source, args.found.path)
            if way is linking.Way.SHARE and not linking.is_large(tree):
                way = linking.Way.COPY
            linking.Linker(owner, way).tree(tree, target)
        else:
            directory, found = os.path.split(args.found.path)
            parent = linking.open_below(source, directory)
            if way is linking.Way.SHARE or os.lstat(found, dir_fd=parent).st_nlink > 1:
                way = linking.Way.COPY  # another source may be a link to it, which copies are not
            linking.Linker(owner, way).file(parent, found, target, name)
    except OSError as error:
        raise SystemError_(f"{error.filename or top}: {(error.strerror or '').lower()}") from error
    return 0


# The child: reads ---------------------------------------------------------------------------------


def _pack_and_exit(args: BuildCopy, told_reading: int, told_writing: int, reading: int, writing: int) -> None:
    status = 1
    try:
        os.close(told_writing)
        os.close(reading)
        enter(args.source)
        if name := os.read(told_reading, _MAX_NAME):
            _send(args, os.fsdecode(name), writing)
            status = 0
    except BrokenPipeError:
        pass
    finally:
        os._exit(status)


class _Pipe:
    def __init__(self, fd: int) -> None:
        self._fd = fd

    def write(self, data: bytes | memoryview, /) -> int:
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]
        return len(data)


def _send(args: BuildCopy, name: str, fd: int) -> None:
    """The source as an archive (a file as *name*), or the archive that it is."""
    found = args.found
    if found.kind == "archive":
        with open(found.path, "rb") as file:
            while os.sendfile(fd, file.fileno(), None, 1 << 20):
                pass
        return
    excluded = Exclusions(args.excludes)
    packer = Packer(
        _Pipe(fd),
        leave_out=excluded.excludes if args.excludes else None,
        prune=not excluded.has_exceptions,
        change_mode=parse_mode(args.mode) if args.mode else None,
    )
    if found.beneath not in ("", "."):
        for parent in parents_of(found.beneath):
            packer.one(os.path.realpath(os.path.join(found.pivot, parent)), parent)
        packer.add(found.path, found.beneath)
    elif found.kind == "dir":
        packer.add(found.path, "")
    else:
        packer.add(found.path, name)
    packer.close()


# The parent: writes -------------------------------------------------------------------------------


class _Place(NamedTuple):
    """The owner's ids, the directory to copy into, the name of a file there ("." for what has its names
    with it), and whether the directory had to be made."""

    owner: tuple[int, int]
    top: str
    name: str
    made: bool


def _place(args: BuildCopy) -> _Place:
    """Enters the target's root, and makes the directory."""
    enter(args.target)
    os.umask(0)
    owner = ids_of(args.owner) if args.owner else (0, 0)
    path = os.path.normpath("/" + args.destination.lstrip("/"))
    # Links are followed to where they lead in the target, be it there or not.
    destination = path if args.anew else os.path.realpath(path)
    if args.found.kind != "file" or args.found.beneath:
        top, name = destination, "."
    elif args.destination.endswith("/") or (os.path.isdir(destination) and not args.anew):
        top, name = destination, args.found.name
    else:
        top, name = os.path.split(destination)
    made = not os.path.isdir(top)
    if args.anew:
        _replace_links(top)
    _make_directories(top, (0, 0) if args.found.kind == "archive" else owner)
    return _Place(owner, top, name, made)


def _replace_links(path: str) -> None:
    """Whatever is no directory on the way to *path* goes."""
    parts = path.strip("/").split("/")
    for count in range(1, len(parts) + 1):
        part = "/" + "/".join(parts[:count])
        if os.path.islink(part) or (os.path.lexists(part) and not os.path.isdir(part)):
            os.unlink(part)


def _receive(args: BuildCopy, told_writing: int, reading: int) -> None:
    change = parse_mode(args.mode) if args.mode else None
    owner, top, name, made = _place(args)
    unpack = args.found.kind == "archive"
    os.write(told_writing, os.fsencode(name))
    source = FdSource(reading)
    # An archive's own owners are kept, whatever --chown says (moby: ADD).
    extractor = Extractor(Options(owner=None if unpack or args.keep_owners else owner))
    try:
        extractor.extract(decompressed(source) if unpack else source, top)
        if change is not None and made and args.found.kind == "dir" and not args.found.beneath:
            os.chmod(top, change(0o755, True))
    except OSError as error:
        raise SystemError_(f"{error.filename or top}: {(error.strerror or '').lower()}") from error


def _make_directories(path: str, owner: tuple[int, int]) -> None:
    if os.path.isdir(path):
        return
    if os.path.lexists(path):
        raise SystemError_(f"mkdir {path}: not a directory")
    _make_directories(os.path.dirname(path), owner)
    os.mkdir(path, 0o755)
    os.chown(path, *owner)
