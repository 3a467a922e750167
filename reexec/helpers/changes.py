"""``docker-changes JSON``: what a container changed in its root file system (``docker diff``)."""

from __future__ import annotations

import os
import stat

import msgspec

from reexec.archive.extract import OPAQUE, OVERLAY_OPAQUE
from reexec.archive.rootfs import RootSpec, assembled, enter
from reexec.call import Call
from reexec.registry import register

MODIFIED, ADDED, DELETED = 0, 1, 2


class Changes(msgspec.Struct, frozen=True):
    """``lower`` is the tree the container began with. ``upper`` holds the differences as overlayfs keeps
    them or, with ``whole``, the complete tree of now, which may be a root as well (``tree``).

    In an archive of the changes nothing is newer than ``newest`` (Unix seconds), if that is given."""

    lower: RootSpec
    upper: str
    whole: bool = False
    tree: RootSpec | None = None
    newest: int | None = None


@register("docker-changes")
def main(call: Call) -> bytes:
    """The result, [(kind, path)] sorted by path, goes to the descriptor ``index`` where given."""
    found = find(call.document(Changes))
    result = msgspec.msgpack.encode([(kind, path) for path, kind in sorted(found.items())])
    if (index := call.fds.get("index")) is not None:
        view = memoryview(result)
        while view:
            view = view[os.write(index, view) :]
        return b""
    return result


def find(args: Changes, *, every: bool = False) -> dict[str, int]:
    """Path -> kind of what has changed. Afterwards the root is the lower tree, the current directory
    the upper one.

    A file that has been copied up and looks as before is no change, except with *every* (a layer has
    it: its content may be another). A running container goes on meanwhile: what goes before it has been
    looked at is not told of."""
    if args.tree is not None:
        upper = assembled(args.tree)
    else:
        upper = os.open(args.upper, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    enter(args.lower)
    os.fchdir(upper)
    found: dict[str, int] = {}
    if args.whole:
        _compare("", found)
    else:
        _differences("", found, every=every)
    return found


def _look(path: str) -> os.stat_result | None:
    """*path*, its links not followed: absolute in the tree below (the root), or in the upper one."""
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):  # it has just gone, or is another thing now
        return []


def _is_whiteout(found: os.stat_result) -> bool:
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0


def _is_opaque(path: str) -> bool:
    try:
        return os.getxattr(path, OVERLAY_OPAQUE, follow_symlinks=False) == b"y"
    except OSError:
        return False


def _differences(directory: str, found: dict[str, int], *, every: bool, covered: bool = False) -> bool:
    """Changes recorded below *directory* ("" or "/a/b") of the upper layer; whether there are any.

    Nothing of the lower layer shows in or below a directory that is *covered* (opaque).
    """
    any_change = False
    for name in _names("." + directory):
        if name == OPAQUE:
            continue  # fuse-overlayfs marks opaque directories by a file, too
        path = f"{directory}/{name}"
        now, before = _look("." + path), _look(path)
        if now is None:
            continue
        if _is_whiteout(now):
            if before is not None:
                found[path] = DELETED
                any_change = True
            continue
        if stat.S_ISDIR(now.st_mode):
            opaque = covered or _is_opaque("." + path)
            if before is not None and opaque and stat.S_ISDIR(before.st_mode):
                _hidden(path, found)
            changed = _differences(path, found, every=every, covered=opaque)
            if before is not None and not changed and not opaque and _same(now, before):
                continue  # copied up, and left as it was
        elif before is not None and not every and _same(now, before):
            continue
        found[path] = ADDED if before is None else MODIFIED
        any_change = True
    return any_change


def _hidden(directory: str, found: dict[str, int]) -> None:
    """What an opaque directory hides and has no replacement for."""
    for name in os.listdir(directory):
        path = f"{directory}/{name}"
        if not os.path.lexists("." + path):
            found[path] = DELETED


def _same(now: os.stat_result, before: os.stat_result) -> bool:
    if now.st_mode != before.st_mode or (now.st_uid, now.st_gid, now.st_rdev) != (
        before.st_uid,
        before.st_gid,
        before.st_rdev,
    ):
        return False
    # The size of a directory depends on its layer, its time on what is in it.
    return stat.S_ISDIR(now.st_mode) or (
        now.st_size == before.st_size and now.st_mtime_ns == before.st_mtime_ns
    )


def _compare(directory: str, found: dict[str, int]) -> bool:
    """Two complete trees, the lower one being the root."""
    names = set(_names("." + directory))
    lower = _look(directory or "/")
    before_names = set(os.listdir(directory or "/")) if lower and stat.S_ISDIR(lower.st_mode) else set()
    any_change = False
    for name in before_names - names:
        found[f"{directory}/{name}"] = DELETED
        any_change = True
    for name in names:
        path = f"{directory}/{name}"
        now, before = _look("." + path), _look(path)
        if now is None:
            continue
        below = stat.S_ISDIR(now.st_mode) and _compare(path, found)
        if before is not None and not below and _same(now, before):
            continue
        found[path] = ADDED if before is None else MODIFIED
        any_change = True
    return any_change
