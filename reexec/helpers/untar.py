"""``docker-untar JSON``: extract standard input into a directory of a root file system (``docker cp``)."""

from __future__ import annotations

import hashlib
import os

import msgspec

from reexec.archive.extract import Extractor, Options
from reexec.archive.rootfs import RootSpec, enter, reach
from reexec.archive.streams import FdSource, decompressed
from reexec.call import Call
from reexec.helpers.stat import cannot_look
from reexec.registry import register
from services.protocol.errors import InvalidParameter, NotFound, SystemError_


class Untar(msgspec.Struct, frozen=True):
    """``path`` is taken from the root and must be a directory; ``container`` is for messages.

    ``read_only`` refuses what is in none of ``mounts`` (target: whether it may be written to).
    Without ``devices`` an archive that has some is refused. With ``owner`` ("user[:group]", names of
    the root's own files or numbers) everything belongs to it.
    """

    root: RootSpec
    path: str = "/"
    container: str = ""
    owner: str = ""
    no_overwrite_dir_non_dir: bool = False
    devices: bool = True
    read_only: bool = False
    mounts: dict[str, bool] = {}


@register("docker-untar")
def main(call: Call) -> bytes:
    """The result is a digest of the owners' names in the archive, which are used for nothing else."""
    args = call.document(Untar)
    reached = reach(args.root)  # before anything is read: an archive can be read once only
    source = decompressed(FdSource(call.fds.get("stdin", 0)))
    enter(args.root, reached)
    os.umask(0)
    path = destination(args)
    check_writable(args, path)
    owner = owner_of(args.owner) if args.owner else None
    options = Options(
        owner=owner, no_overwrite_dir_non_dir=args.no_overwrite_dir_non_dir, devices=args.devices
    )
    extractor = Extractor(options)
    extractor.extract(source, path)
    return msgspec.msgpack.encode(hashlib.sha256(repr(sorted(extractor.owner_names)).encode()).hexdigest())


def destination(args: Untar) -> str:
    """The directory that ``path`` leads to, its links followed.

    Raises what ``dockerd`` answers: :class:`NotFound`, :class:`SystemError_` where a file is taken
    for a directory on the way or by a slash behind it, :class:`InvalidParameter` for another file.
    """
    try:
        path = os.path.realpath(os.path.normpath("/" + args.path.lstrip("/")), strict=True)
    except FileNotFoundError as error:
        raise NotFound(f"Could not find the file {args.path} in container {args.container}") from error
    except NotADirectoryError as error:
        raise SystemError_("not a directory") from error
    except OSError as error:
        raise cannot_look(args.path, error) from error
    if os.path.isdir(path):
        return path
    if args.path.endswith(("/", "/.")):
        end = args.path[len(args.path.rstrip("/.")) :]
        raise SystemError_(f"lstat {path}{end}: not a directory")
    raise InvalidParameter("extraction point is not a directory")


def check_writable(args: Untar, path: str) -> None:
    """The innermost mount around *path* decides, and where there is none the root's own mode."""
    around = [target for target in args.mounts if os.path.commonpath([target, path]) == target.rstrip("/")]
    if around:
        if not args.mounts[max(around, key=len)]:
            raise InvalidParameter("mounted volume is marked read-only")
    elif args.read_only:
        raise InvalidParameter("container rootfs is marked read-only")


def owner_of(text: str) -> tuple[int, int]:
    """Ids of "user[:group]" as the root's own files have them. Raises :class:`InvalidParameter`."""
    user, _, group = text.partition(":")
    user = user or "0"
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
