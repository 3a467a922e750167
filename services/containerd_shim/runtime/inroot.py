"""Paths inside a container's root, where every component is hostile.

Nothing here ever follows a path outside the root: existing paths are resolved by the kernel with
``RESOLVE_IN_ROOT`` (openat2(2)), missing ones are made component by component with ``O_NOFOLLOW``.
A container sharing the directory can swap components meanwhile; the worst it reaches is an error.
"""

from __future__ import annotations

import errno
import os
import stat

from services.containerd_shim.runtime import syscall

_MAX_LINKS = 40


def open_in(root: int, path: str, flags: int = os.O_PATH, mode: int = 0) -> int:
    """Open *path* as if *root* were "/"; the last symlink is followed, inside the root."""
    return syscall.openat2(
        root, path or "/", flags, syscall.RESOLVE_IN_ROOT | syscall.RESOLVE_NO_MAGICLINKS, mode
    )


def exists(root: int, path: str) -> bool:
    try:
        os.close(open_in(root, path))
    except OSError:
        return False
    return True


def make_dir(root: int, path: str, mode: int = 0o755) -> int:
    """The directory *path* (O_PATH), made with its parents where missing."""
    try:
        return open_in(root, path, os.O_PATH | os.O_DIRECTORY)
    except FileNotFoundError:
        return _make(root, _expand(root, path), mode)


def make_file(root: int, path: str) -> int:
    """The non-directory *path* (O_PATH), made empty with its parents where missing."""
    try:
        return open_in(root, path)
    except FileNotFoundError:
        pass
    parts = _expand(root, path)
    if not parts:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    parent = _make(root, parts[:-1], 0o755)
    try:
        flags = os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_WRONLY | os.O_NONBLOCK
        return os.open(parts[-1], flags, 0o644, dir_fd=parent)
    finally:
        os.close(parent)


def parent_of(root: int, path: str) -> tuple[int, str]:
    """The directory that holds *path* (made if missing) and the last component's name."""
    head, _, name = path.rstrip("/").rpartition("/")
    if name in ("", ".", ".."):
        raise OSError(errno.EINVAL, "invalid path inside the container", path)
    return make_dir(root, head or "/"), name


def _make(root: int, parts: list[str], mode: int) -> int:
    """Walk *parts* (no symlinks among them), making what is missing."""
    here = os.open(".", os.O_PATH | os.O_CLOEXEC, dir_fd=root)
    for part in parts:
        try:
            os.mkdir(part, mode, dir_fd=here)
        except FileExistsError:
            pass
        except BaseException:
            os.close(here)
            raise
        try:
            below = syscall.openat2(
                here, part, os.O_PATH | os.O_DIRECTORY, syscall.RESOLVE_NO_SYMLINKS | syscall.RESOLVE_BENEATH
            )
        finally:
            os.close(here)
        here = below
    return here


def _expand(root: int, path: str) -> list[str]:
    """The components of *path* with symlinks (also dangling ones) replaced, all inside the root."""
    done: list[str] = []
    rest = [part for part in reversed(path.split("/")) if part not in ("", ".")]
    links = 0
    while rest:
        part = rest.pop()
        if part == "..":
            if done:
                done.pop()
            continue
        target = _readlink(root, [*done, part])
        if target is None:
            done.append(part)
            continue
        links += 1
        if links > _MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        if target.startswith("/"):
            done = []
        rest += [piece for piece in reversed(target.split("/")) if piece not in ("", ".")]
    return done


def _readlink(root: int, parts: list[str]) -> str | None:
    """The target when *parts* names a symlink; None when it is anything else or missing."""
    try:
        fd = syscall.openat2(root, "/".join(parts), os.O_PATH | os.O_NOFOLLOW, syscall.RESOLVE_IN_ROOT)
    except OSError:
        return None
    try:
        if not stat.S_ISLNK(os.fstat(fd).st_mode):
            return None
        return os.readlink("", dir_fd=fd)
    finally:
        os.close(fd)
