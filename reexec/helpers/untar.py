"""``docker-untar JSON``: extract standard input into a directory of a root file system (``docker cp``)."""

from __future__ import annotations

import hashlib
import os

import msgspec

from reexec.archive.extract import Extractor, Options
from reexec.archive.rootfs import RootSpec, enter, reach
from reexec.archive.streams import FdSource, decompressed
from reexec.call import Call
from reexec.registry import register
from services.protocol.errors import InvalidParameter, NotFound, SystemError_


class Untar(msgspec.Struct, frozen=True):
    """``path`` is absolute inside the root and must be a directory; ``container`` is for messages.

    Without ``devices`` an archive that has some is refused. With ``owner`` ("user[:group]", names of
    the root's own files or numbers) everything belongs to it.
    """

    root: RootSpec
    path: str = "/"
    container: str = ""
    owner: str = ""
    no_overwrite_dir_non_dir: bool = False
    devices: bool = True


@register("docker-untar")
def main(call: Call) -> bytes:
    """The result is a digest of the owners' names in the archive, which are used for nothing else."""
    args = call.document(Untar)
    reached = reach(args.root)  # before anything is read: an archive can be read once only
    source = decompressed(FdSource(call.fds.get("stdin", 0)))
    enter(args.root, reached)
    os.umask(0)
    path = os.path.realpath("/" + args.path.lstrip("/"))
    if not os.path.lexists(path):
        raise NotFound(f"Could not find the file {args.path} in container {args.container}")
    if not os.path.isdir(path):
        raise SystemError_("extraction point is not a directory")
    owner = owner_of(args.owner) if args.owner else None
    options = Options(
        owner=owner, no_overwrite_dir_non_dir=args.no_overwrite_dir_non_dir, devices=args.devices
    )
    extractor = Extractor(options)
    extractor.extract(source, path)
    return msgspec.msgpack.encode(hashlib.sha256(repr(sorted(extractor.owner_names)).encode()).hexdigest())


def owner_of(text: str) -> tuple[int, int]:
    """Ids of "user[:group]" as the root's own files have them. Raises :class:`InvalidParameter`."""
    user, _, group = text.partition(":")
    fields = _find("/etc/passwd", user)
    if fields is None and not user.isdigit():
        raise InvalidParameter(f"unable to find user {user}: no matching entries in passwd file")
    uid = int(fields[2]) if fields else int(user)
    if not group:
        return uid, int(fields[3]) if fields else 0
    entry = _find("/etc/group", group)
    if entry is None and not group.isdigit():
        raise InvalidParameter(f"unable to find group {group}: no matching entries in group file")
    return uid, int(entry[2]) if entry else int(group)


def _find(path: str, key: str) -> list[str] | None:
    """The line of *path* whose name or id is *key*."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            rows = [line.rstrip("\n").split(":") for line in file]
    except OSError:
        return None
    return next((row for row in rows if len(row) > 3 and key in (row[0], row[2])), None)
