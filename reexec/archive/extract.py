"""Tar stream -> tree, as root, inside a directory that has been made the root (``chroot``).

Layer archives follow the OCI image specification (layer.md): ``.wh.<name>`` deletes, ``.wh..wh..opq``
hides what lies below. Names that leave the tree are refused; links may point anywhere, because the
root is the end of the world. moby ``pkg/archive/{archive,diff}.go``.
"""

from __future__ import annotations

import enum
import os
import shutil
import stat
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field

from reexec.archive.streams import BLOCK, CutOff, Source
from reexec.archive.tarfmt import Data, atime_ns, members, mtime_ns, parts, xattrs
from services.protocol.errors import InvalidParameter, SystemError_

WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"
#: Aufs' own files in old layers; nobody wants them.
WHITEOUT_META = ".wh..wh."
OVERLAY_OPAQUE = "trusted.overlay.opaque"


class Whiteouts(enum.StrEnum):
    """What to do with a layer's marks of deletion."""

    #: As overlayfs has them: character device 0/0, and an attribute of opaque directories.
    OVERLAY = "overlay"
    #: Delete from the tree, which holds the layers below.
    REMOVE = "remove"
    #: The archive is no layer: the names mean nothing.
    LITERAL = "literal"


@dataclass
class Options:
    """``owner`` (uid, gid) replaces the recorded owners. ``no_overwrite_dir_non_dir`` refuses to
    replace a directory by something else or the other way round (``docker cp``). Without ``devices``
    an archive that has some is refused."""

    whiteouts: Whiteouts = Whiteouts.LITERAL
    owner: tuple[int, int] | None = None
    no_overwrite_dir_non_dir: bool = False
    copy_mode: bool = True
    devices: bool = True


@dataclass
class Extractor:
    """Extracts into the current root; one use, one archive."""

    options: Options = field(default_factory=Options)
    #: Told where in the archive the content of a file is: (offset, size, path).
    content: Callable[[int, int, str], None] | None = None
    #: (user, group) as the archive names them.
    owner_names: set[tuple[str, str]] = field(default_factory=set)
    #: Whether the archive has an entry for the directory it is extracted into.
    root: bool = False
    _root: str = "/"
    _directory_times: list[tuple[str, int, int]] = field(default_factory=list)
    #: Paths made by this archive, which an opaque mark of the same archive does not delete -> bytes.
    _made: dict[str, int] = field(default_factory=dict)

    def extract(self, source: Source, directory: str = "/") -> None:
        """The archive of *source* below *directory*, an absolute path in the root."""
        self._root = directory
        for info, reader in members(source):
            name = self._clean(info.name)
            self.owner_names.add((info.uname, info.gname))
            path = os.path.join(directory, name) if name else directory
            try:
                self._member(info, reader, name, path, directory)
            except OSError as error:
                raise _refused(info, path, error) from error
            except (ValueError, OverflowError) as error:  # a NUL in a name, a number beyond C's
                raise InvalidParameter("archive/tar: invalid tar header") from error
        # A directory's time changes with every entry made in it, so it is set last, inside out.
        for path, atime, mtime in reversed(self._directory_times):
            if os.path.isdir(path) and not os.path.islink(path):
                os.utime(path, ns=(atime, mtime))

    def _member(
        self, info: tarfile.TarInfo, reader: Data | None, name: str, path: str, directory: str
    ) -> None:
        if self.options.whiteouts is not Whiteouts.LITERAL and self._whiteout(name, path):
            return
        if not name and self.options.whiteouts is Whiteouts.LITERAL and info.isdir():
            return  # what the tree is put into stays as it is
        if name:
            self._parents(os.path.dirname(path), directory)
        self._entry(info, reader, path, directory)

    @property
    def size(self) -> int:
        """Bytes of the files that this archive has made."""
        return sum(self._made.values())

    @staticmethod
    def _clean(name: str) -> str:
        """Relative to the tree, "" for the tree itself; raises for one that leaves it."""
        clean = os.path.normpath(name.lstrip("/") or ".")
        if clean == "..":
            raise InvalidParameter(f'invalid archive: "{name}" is outside of the tree')
        if clean.startswith("../"):
            raise InvalidParameter(f'invalid archive: "{name}" is outside of the tree')
        return "" if clean == "." else clean

    def _parents(self, path: str, top: str) -> None:
        if path in ("/", top) or os.path.isdir(path):
            return
        self._parents(os.path.dirname(path), top)
        if os.path.lexists(path):
            os.unlink(path)
        os.mkdir(path)
        os.chmod(path, 0o755)
        if self.options.owner is not None:
            os.chown(path, *self.options.owner)

    def _whiteout(self, name: str, path: str) -> bool:
        base = os.path.basename(name)
        if not base.startswith(WHITEOUT):
            # Aufs kept hard links below a directory of such a name.
            return any(part.startswith(WHITEOUT_META) for part in name.split("/"))
        parent = os.path.dirname(path)
        if base == OPAQUE:
            self._parents(parent, "/")
            self._opaque(parent)
        elif not base.startswith(WHITEOUT_META):
            target = os.path.join(parent, base.removeprefix(WHITEOUT))
            if base == WHITEOUT or base == WHITEOUT + "." or base == WHITEOUT + "..":
                raise InvalidParameter(f'invalid archive: "{name}" is not a whiteout')
            if self.options.whiteouts is Whiteouts.OVERLAY:
                self._parents(parent, "/")
            if os.path.lexists(target):
                _remove(target)
            if self.options.whiteouts is Whiteouts.OVERLAY:
                os.mknod(target, stat.S_IFCHR, 0)
        return True

    def _opaque(self, directory: str) -> None:
        if self.options.whiteouts is Whiteouts.OVERLAY:
            os.setxattr(directory, OVERLAY_OPAQUE, b"y")
            return
        for entry in os.scandir(directory):
            if entry.path not in self._made:
                self._remove_unmade(entry.path)

    def _remove_unmade(self, path: str) -> None:
        prefix = path + "/"
        if not any(made.startswith(prefix) for made in self._made):
            _remove(path)
            return
        for entry in os.scandir(path):
            if entry.path not in self._made:
                self._remove_unmade(entry.path)

    def _entry(self, info: tarfile.TarInfo, reader: Data | None, path: str, directory: str) -> None:
        if path != directory:
            self._make_room(info, path)
        else:
            self.root = True
        self._made[path] = len(os.fsencode(info.linkname)) if info.issym() else info.size
        mode = info.mode & 0o7777
        if info.isdir():
            if not os.path.isdir(path) or os.path.islink(path):
                os.mkdir(path)
            self._directory_times.append((path, atime_ns(info), mtime_ns(info)))
        elif reader is not None:
            if self.content is not None and not info.issparse():
                self.content(info.offset_data, info.size, path)
            self._file(info, reader, path)
        elif info.issym():
            os.symlink(info.linkname, path)
        elif info.islnk():
            # The target is a name of the archive, never of the machine: joined to the root.
            target = os.path.join(directory, self._clean(info.linkname))
            try:
                os.link(target, path, follow_symlinks=False)
            except FileNotFoundError as error:
                text = f'invalid archive: "{info.name}" links to "{info.linkname}", which it does not have'
                raise InvalidParameter(text) from error
            return
        elif info.ischr() or info.isblk():
            if not self.options.devices:
                raise InvalidParameter(f'invalid archive: "{info.name}" is a device')
            kind = stat.S_IFCHR if info.ischr() else stat.S_IFBLK
            os.mknod(path, kind | mode, os.makedev(info.devmajor, info.devminor))
        elif info.isfifo():
            os.mkfifo(path, mode)
        else:
            raise InvalidParameter(f'invalid archive: "{info.name}" has the unknown type {info.type!r}')
        self._attributes(info, path, mode)

    def _make_room(self, info: tarfile.TarInfo, path: str) -> None:
        try:
            there = os.lstat(path)
        except FileNotFoundError:
            return
        is_directory = stat.S_ISDIR(there.st_mode)
        if self.options.no_overwrite_dir_non_dir and is_directory != info.isdir():
            first, second = ("directory", "non-directory") if is_directory else ("non-directory", "directory")
            raise InvalidParameter(f'cannot overwrite {first} "{path}" with {second} "{self._root}"')
        if not (is_directory and info.isdir()):
            try:
                _remove(path)
            except OSError as error:
                raise SystemError_(f"unlinkat {path}: {(error.strerror or '').lower()}") from error

    @staticmethod
    def _file(info: tarfile.TarInfo, reader: Data, path: str) -> None:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            # Of a sparse file only the parts that there are: a header of a few bytes may claim exabytes.
            for offset, length in parts(info):
                reader.seek(offset)
                os.lseek(fd, offset, os.SEEK_SET)
                _copy(reader, length, fd)
            os.ftruncate(fd, info.size)
        finally:
            os.close(fd)

    def _attributes(self, info: tarfile.TarInfo, path: str, mode: int) -> None:
        """Owner before mode: chown clears the set-id bits; attributes last: it clears capabilities."""
        os.lchown(path, *(self.options.owner or (info.uid, info.gid)))
        if not info.issym():
            os.chmod(path, mode)
        for name, value in xattrs(info).items():
            try:
                os.setxattr(path, name, value, follow_symlinks=False)
            except OSError as error:
                if error.errno not in _XATTR_UNSUPPORTED:
                    raise
        if not info.isdir():
            os.utime(path, ns=(atime_ns(info), mtime_ns(info)), follow_symlinks=False)


def _copy(reader: Data, length: int, fd: int) -> None:
    while length:
        data = reader.read(min(length, BLOCK))
        if not data:
            raise CutOff
        view = memoryview(data)
        length -= len(view)
        while view:
            view = view[os.write(fd, view) :]


_CALLS = {
    tarfile.DIRTYPE: "mkdir",
    tarfile.SYMTYPE: "symlink",
    tarfile.LNKTYPE: "link",
    tarfile.CHRTYPE: "mknod",
    tarfile.BLKTYPE: "mknod",
    tarfile.FIFOTYPE: "mknod",
}


def _refused(info: tarfile.TarInfo, path: str, error: OSError) -> SystemError_:
    """The kernel's refusal, as Go says it: ``mkdir /a/b: not a directory``."""
    text = os.strerror(error.errno) if error.errno else str(error)
    call = _CALLS.get(info.type, "open")
    return SystemError_(f"{call} {os.fsdecode(error.filename or path)}: {text[:1].lower()}{text[1:]}")


#: ENOTSUP, and EPERM for attributes of security modules the host has not (moby ignores both).
_XATTR_UNSUPPORTED = (95, 1)


def _remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)


def tree_size(root: str) -> int:
    """Bytes of all files of a tree: each inode once, directories not counted (moby ``directory.Size``)."""
    total, seen, pending = 0, set[tuple[int, int]](), [root]
    while pending:
        try:
            entries = list(os.scandir(pending.pop()))
        except FileNotFoundError:
            continue
        for entry in entries:
            try:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                    continue
                found = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            if found.st_nlink > 1:
                if (found.st_dev, found.st_ino) in seen:
                    continue
                seen.add((found.st_dev, found.st_ino))
            total += found.st_size
    return total
