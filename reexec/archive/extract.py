"""Tar stream -> tree, as root, inside a directory that has been made the root (``chroot``).

Layer archives follow the OCI image specification (layer.md): ``.wh.<name>`` deletes, ``.wh..wh..opq``
hides what lies below. Names that leave the tree are refused; links may point anywhere, because the
root is the end of the world. moby ``pkg/archive/{archive,diff}.go``.
"""

from __future__ import annotations

import contextlib
import enum
import os
import shutil
import stat
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field

from reexec.archive.filling import fill, refused, set_xattrs
from reexec.archive.streams import Source
from reexec.archive.tarfmt import Data, atime_ns, members, mtime_ns
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
    #: Told where in the archive the content of a file is, (offset, size, path); returns a number for it.
    content: Callable[[int, int, str], int] | None = None
    #: Told that the file (path) with the content (number) is about to be removed, and may take it away.
    lose: Callable[[int, str], None] | None = None
    #: (user, group) as the archive names them.
    owner_names: set[tuple[str, str]] = field(default_factory=set)
    #: Whether the archive has an entry for the directory it is extracted into.
    root: bool = False
    _root: str = "/"
    _directory_times: list[tuple[str, int, int]] = field(default_factory=list)
    #: Paths made by this archive, which an opaque mark of the same archive does not delete -> bytes.
    _made: dict[str, int] = field(default_factory=dict)
    #: Files whose content has been told, with that content's number.
    _told: dict[str, int] = field(default_factory=dict)
    #: Directories that are there -> without links in between; forgotten when something is removed.
    _known: dict[str, str] = field(default_factory=dict)

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
                raise refused(info, path, error) from error
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
        if path in self._known:
            return
        if path in ("/", top) or os.path.isdir(path):
            parent, name = os.path.split(path)
            known = None if os.path.islink(path) else self._known.get(parent)
            self._known[path] = os.path.realpath(path) if known is None else os.path.join(known, name)
            return
        self._parents(os.path.dirname(path), top)
        if os.path.lexists(path):
            self._remove(path)
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
                self._remove(target)
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
            self._remove(path)
            return
        for entry in os.scandir(path):
            if entry.path not in self._made:
                self._remove_unmade(entry.path)

    def _entry(self, info: tarfile.TarInfo, reader: Data | None, path: str, directory: str) -> None:
        if path == directory:
            if not info.isdir():
                raise InvalidParameter(f'invalid archive: "{info.name}" is not a directory')
            self.root = True
        elif reader is None:
            self._make_room(info, path)
        self._made[path] = len(os.fsencode(info.linkname)) if info.issym() else info.size
        mode = info.mode & 0o7777
        if info.isdir():
            if not os.path.isdir(path) or os.path.islink(path):
                os.mkdir(path)
            self._directory_times.append((path, atime_ns(info), mtime_ns(info)))
        elif reader is not None:
            self._file(info, reader, path, mode)
            return
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
            raise SystemError_(f'cannot overwrite {first} "{path}" with {second} "{self._root}"')
        if not (is_directory and info.isdir()):
            try:
                self._remove(path)
            except OSError as error:
                raise SystemError_(f"unlinkat {path}: {(error.strerror or '').lower()}") from error

    def _remove(self, path: str) -> None:
        self._known.clear()
        if not os.path.isdir(path) or os.path.islink(path):
            self._lose(path)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            return
        if self._told:
            for base, _, files in os.walk(path):
                for name in files:
                    self._lose(os.path.join(base, name))
        shutil.rmtree(path)

    def _lose(self, path: str) -> None:
        if self._told and self.lose is not None:
            directory, name = os.path.split(path)
            number = self._told.pop(os.path.join(os.path.realpath(directory), name), None)
            if number is not None:
                self.lose(number, path)

    def _file(self, info: tarfile.TarInfo, reader: Data, path: str, mode: int) -> None:
        try:
            fd = os.open(path, _NEW_FILE, 0o600)
        except FileExistsError:
            self._make_room(info, path)
            fd = os.open(path, _NEW_FILE, 0o600)
        try:
            if self.content is not None and info.size and not info.issparse():
                directory, name = os.path.split(path)
                # Not through links, which may be replaced.
                real = os.path.join(self._known.get(directory) or os.path.realpath(directory), name)
                self._told[real] = self.content(info.offset_data, info.size, real)
            fill(info, reader, fd)
            # By descriptor: nothing is looked up again.
            os.fchown(fd, *(self.options.owner or (info.uid, info.gid)))
            os.fchmod(fd, mode)
            set_xattrs(info, fd)
            os.utime(fd, ns=(atime_ns(info), mtime_ns(info)))
        finally:
            os.close(fd)

    def _attributes(self, info: tarfile.TarInfo, path: str, mode: int) -> None:
        """Owner before mode: chown clears the set-id bits; attributes last: it clears capabilities."""
        os.lchown(path, *(self.options.owner or (info.uid, info.gid)))
        if not info.issym():
            os.chmod(path, mode)
        set_xattrs(info, path)
        if not info.isdir():
            os.utime(path, ns=(atime_ns(info), mtime_ns(info)), follow_symlinks=False)


_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def tree_size(root: str) -> int:
    """Bytes of all files of a tree: each inode once, directories not counted (moby ``directory.Size``)."""
    total, seen, pending = 0, set[tuple[int, int]](), [root]
    while pending:
        try:
            entries = list(os.scandir(pending.pop()))
        except (FileNotFoundError, NotADirectoryError):
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
