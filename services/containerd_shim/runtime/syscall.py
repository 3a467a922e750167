"""The one seam to system calls that Python has no function for.

Every function raises :class:`OSError` with the kernel's errno. Numbers above 423 are the same on all
architectures; the few below are in :data:`_NUMBERS`. Nothing else in the runtime uses ctypes.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterable

_libc = ctypes.CDLL(None, use_errno=True)
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long

#: machine -> (pivot_root, keyctl, seccomp, bpf)
_NUMBERS = {"x86_64": (155, 250, 317, 321), "aarch64": (41, 219, 277, 280), "riscv64": (41, 219, 277, 280)}
_PIVOT_ROOT, _KEYCTL, _SECCOMP, _BPF = _NUMBERS.get(os.uname().machine, (-1, -1, -1, -1))

CLONE_NEWTIME = 0x00000080
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_SYNCHRONOUS = 0x10
MS_REMOUNT = 0x20
MS_MANDLOCK = 0x40
MS_DIRSYNC = 0x80
MS_NOSYMFOLLOW = 0x100
MS_NOATIME = 0x400
MS_NODIRATIME = 0x800
MS_BIND = 0x1000
MS_REC = 0x4000
MS_SILENT = 0x8000
MS_POSIXACL = 0x10000
MS_UNBINDABLE = 0x20000
MS_PRIVATE = 0x40000
MS_SLAVE = 0x80000
MS_SHARED = 0x100000
MS_RELATIME = 0x200000
MS_I_VERSION = 0x800000
MS_STRICTATIME = 0x1000000
MS_LAZYTIME = 0x2000000
MNT_DETACH = 2

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000
OPEN_TREE_CLONE = 1
OPEN_TREE_CLOEXEC = os.O_CLOEXEC
MOVE_MOUNT_F_EMPTY_PATH = 0x4
MOVE_MOUNT_T_EMPTY_PATH = 0x40
MOUNT_ATTR_RDONLY = 0x1
MOUNT_ATTR_NOSUID = 0x2
MOUNT_ATTR_NODEV = 0x4
MOUNT_ATTR_NOEXEC = 0x8
MOUNT_ATTR__ATIME = 0x70
MOUNT_ATTR_NOATIME = 0x10
MOUNT_ATTR_STRICTATIME = 0x20
MOUNT_ATTR_NODIRATIME = 0x80
MOUNT_ATTR_IDMAP = 0x100000
MOUNT_ATTR_NOSYMFOLLOW = 0x200000

RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10

_FSCONFIG_SET_FLAG, _FSCONFIG_SET_STRING, _FSCONFIG_CMD_CREATE = 0, 1, 6

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_CAPBSET_READ = 23
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
PR_CAP_AMBIENT_CLEAR_ALL = 4

CLOSE_RANGE_CLOEXEC = 4
SECCOMP_SET_MODE_FILTER = 1
SECCOMP_GET_ACTION_AVAIL = 2
#: As many as libpathrs makes: only an attack takes so many.
_OPEN_ATTEMPTS = 128
_LAST_FD = 0xFFFFFFFF


def _check(result: int, *names: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), *names[:1])
    return result


def _bytes(text: str | None) -> bytes | None:
    """For a C function, which would take a path with a NUL for a shorter one."""
    if text is None:
        return None
    raw = os.fsencode(text)
    if b"\0" in raw:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), text)
    return raw


def _call(number: int, *args: object) -> int:
    return int(_check(_syscall(ctypes.c_long(number), *args)))


def unshare(flags: int) -> None:
    _check(_libc.unshare(flags))


def setns(fd: int, flags: int = 0) -> None:
    _check(_libc.setns(fd, flags))


def mount(source: str, target: str, fstype: str | None, flags: int, data: str = "") -> None:
    _check(
        _libc.mount(
            _bytes(source), _bytes(target), _bytes(fstype), ctypes.c_ulong(flags), _bytes(data or None)
        ),
        target,
    )


def umount(target: str, flags: int = 0) -> None:
    _check(_libc.umount2(_bytes(target), flags), target)


def pivot_root(new: str, old: str) -> None:
    _call(_PIVOT_ROOT, _bytes(new), _bytes(old))


def open_tree(dirfd: int, path: str, flags: int) -> int:
    """A detached mount (``OPEN_TREE_CLONE``) of *path*; the descriptor is close-on-exec."""
    return _call(428, ctypes.c_int(dirfd), _bytes(path), ctypes.c_uint(flags | OPEN_TREE_CLOEXEC))


def new_mount(fstype: str, source: str, options: Iterable[str], attributes: int) -> int:
    """A detached mount of a fresh file system; *options* are ``key`` or ``key=value``.

    *attributes* are the mount's MOUNT_ATTR_*. The error's file name is the option that was refused.
    """
    context = _call(430, _bytes(fstype), ctypes.c_uint(1))
    try:
        _fsconfig(context, _FSCONFIG_SET_STRING, "source", source)
        for option in options:
            key, equals, value = option.partition("=")
            _fsconfig(context, _FSCONFIG_SET_STRING if equals else _FSCONFIG_SET_FLAG, key, value)
        _fsconfig(context, _FSCONFIG_CMD_CREATE, None, None)
        return _call(432, ctypes.c_int(context), ctypes.c_uint(1), ctypes.c_uint(attributes))
    finally:
        os.close(context)


def _fsconfig(context: int, command: int, key: str | None, value: str | None) -> None:
    text = _bytes(value) if command == _FSCONFIG_SET_STRING else None
    result = _syscall(
        ctypes.c_long(431), ctypes.c_int(context), ctypes.c_uint(command), _bytes(key), text, ctypes.c_int(0)
    )
    _check(result, *([key] if key else []))


def move_mount(source_fd: int, target_fd: int) -> None:
    """Attach the mount *source_fd* on the object that *target_fd* refers to."""
    flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH
    _call(429, ctypes.c_int(source_fd), b"", ctypes.c_int(target_fd), b"", ctypes.c_uint(flags))


def mount_setattr(
    fd: int, *, attr_set: int = 0, attr_clr: int = 0, propagation: int = 0, userns: int = 0, recursive: bool
) -> None:
    """Change flags or propagation of the mount *fd* (mount_setattr(2)); *userns* is an id-map source."""
    attributes = struct.pack("=QQQQ", attr_set, attr_clr, propagation, userns)
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    _call(442, ctypes.c_int(fd), b"", ctypes.c_uint(flags), attributes, ctypes.c_size_t(len(attributes)))


def openat2(dirfd: int, path: str, flags: int, resolve: int, mode: int = 0) -> int:
    """Open *path* below *dirfd* under the restrictions *resolve*; close-on-exec.

    Any mount or rename of the host during a step to ".." makes the kernel say EAGAIN, for it might have
    led out: tried again, as openat2(2) advises.
    """
    how = struct.pack("=QQQ", flags | os.O_CLOEXEC, mode, resolve)
    arguments = ctypes.c_int(dirfd), _bytes(path), how, ctypes.c_size_t(len(how))
    for _ in range(_OPEN_ATTEMPTS):
        result = _syscall(ctypes.c_long(437), *arguments)
        if result >= 0 or ctypes.get_errno() != errno.EAGAIN:
            break
    return int(_check(result, path))


def close_range(first: int, last: int = _LAST_FD, flags: int = 0) -> None:
    _call(436, ctypes.c_uint(first), ctypes.c_uint(last), ctypes.c_uint(flags))


def prctl(option: int, *args: int) -> int:
    padded = [ctypes.c_ulong(arg) for arg in (*args, 0, 0, 0, 0)[:4]]
    return int(_check(_libc.prctl(option, *padded)))


def capset(effective: int, permitted: int, inheritable: int) -> None:
    """Set this thread's three capability sets, each a bit mask (capset(2), version 3)."""
    header = struct.pack("=Ii", 0x20080522, 0)
    low = 0xFFFFFFFF
    data = struct.pack(
        "=6I",
        effective & low,
        permitted & low,
        inheritable & low,
        effective >> 32,
        permitted >> 32,
        inheritable >> 32,
    )
    _check(_libc.capset(header, data))


def capget() -> tuple[int, int, int]:
    """(effective, permitted, inheritable) of this thread."""
    header = struct.pack("=Ii", 0x20080522, 0)
    data = ctypes.create_string_buffer(24)
    _check(_libc.capget(header, data))
    low = struct.unpack_from("=3I", data.raw)
    high = struct.unpack_from("=3I", data.raw, 12)
    effective, permitted, inheritable = (a | b << 32 for a, b in zip(low, high, strict=True))
    return effective, permitted, inheritable


def setfsid(uid: int, gid: int) -> None:
    """The ids that file accesses are judged by; the kernel takes CAP_DAC_* along with uid 0."""
    _libc.setfsgid(ctypes.c_uint(gid))
    _libc.setfsuid(ctypes.c_uint(uid))


def setdomainname(name: str) -> None:
    raw = os.fsencode(name)
    _check(_libc.setdomainname(raw, ctypes.c_size_t(len(raw))))


def personality(persona: int) -> None:
    _check(_libc.personality(ctypes.c_ulong(persona)))


def join_session_keyring(name: str) -> None:
    """A session keyring of the process's own, so that the host's keys are out of reach (keyctl(2))."""
    _call(_KEYCTL, ctypes.c_int(1), _bytes(name))


def seccomp_load(program: bytes, flags: int) -> int:
    """Install a BPF program for this thread (seccomp(2)); the result is the listener with NEW_LISTENER."""
    buffer = ctypes.create_string_buffer(program, len(program))
    prog = struct.pack("@HxxxxxxP", len(program) // 8, ctypes.addressof(buffer))
    return _call(_SECCOMP, ctypes.c_uint(SECCOMP_SET_MODE_FILTER), ctypes.c_uint(flags), prog)


def bpf(command: int, attributes: bytes) -> int:
    """bpf(2); *attributes* is the packed ``union bpf_attr``."""
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    return _call(_BPF, ctypes.c_int(command), buffer, ctypes.c_uint(len(attributes)))


def bpf_read(command: int, attributes: bytes) -> bytes:
    """bpf(2) for commands that answer in their attributes; the attributes after the call."""
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    _call(_BPF, ctypes.c_int(command), buffer, ctypes.c_uint(len(attributes)))
    return buffer.raw


def inotify(path: str, mask: int) -> int:
    """A non-blocking inotify descriptor with one watch."""
    fd = int(_check(_libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)))
    try:
        _check(_libc.inotify_add_watch(fd, _bytes(path), ctypes.c_uint32(mask)), path)
    except OSError:
        os.close(fd)
        raise
    return fd


def bpf_buffer(data: bytes) -> ctypes.Array[ctypes.c_char]:
    """Memory whose address can stand in a ``bpf_attr``; keep the object while the call runs."""
    return ctypes.create_string_buffer(data, len(data))


def address_of(buffer: ctypes.Array[ctypes.c_char]) -> int:
    return ctypes.addressof(buffer)
