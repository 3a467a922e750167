"""What goes into a file that an archive brings: content, attributes; and the words of a refusal."""

from __future__ import annotations

import os
import tarfile

from reexec.archive.streams import BLOCK, CutOff
from reexec.archive.tarfmt import Data, parts, xattrs
from services.protocol.errors import SystemError_

#: ENOTSUP, and EPERM for attributes of security modules the host has not (moby ignores both).
_XATTR_UNSUPPORTED = (95, 1)


def fill(info: tarfile.TarInfo, reader: Data, fd: int) -> None:
    """Of a sparse file only the parts that there are: a header of a few bytes may claim exabytes."""
    if not info.issparse():
        _write(reader, info.size, fd)
        return
    for offset, size in parts(info):
        reader.seek(offset)
        os.lseek(fd, offset, os.SEEK_SET)
        _write(reader, size, fd)
    os.ftruncate(fd, info.size)


def _write(reader: Data, size: int, fd: int) -> None:
    while size:
        data = reader.read(min(size, BLOCK))
        if not data:
            raise CutOff
        size -= len(data)
        view = memoryview(data)
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


def refused(info: tarfile.TarInfo, path: str, error: OSError) -> SystemError_:
    """The kernel's refusal, as Go says it: ``mkdir /a/b: not a directory``."""
    text = os.strerror(error.errno) if error.errno else str(error)
    call = _CALLS.get(info.type, "open")
    name = error.filename if isinstance(error.filename, str | bytes) else path
    return SystemError_(f"{call} {os.fsdecode(name)}: {text[:1].lower()}{text[1:]}")


def set_xattrs(info: tarfile.TarInfo, where: str | int) -> None:
    for name, value in xattrs(info).items():
        try:
            if isinstance(where, int):
                os.setxattr(where, name, value)
            else:
                os.setxattr(where, name, value, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _XATTR_UNSUPPORTED:
                raise
