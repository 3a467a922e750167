"""Mount options in words (mount(8), the OCI specification) turned into what the kernel takes."""

from __future__ import annotations

from dataclasses import dataclass, field

from services.containerd_shim.runtime import syscall as sc
from services.protocol import oci
from services.protocol.errors import InvalidParameter, Unimplemented

#: option -> (clear, flag of mount(2))
_FLAGS: dict[str, tuple[bool, int]] = {
    "acl": (False, sc.MS_POSIXACL),
    "async": (True, sc.MS_SYNCHRONOUS),
    "atime": (True, sc.MS_NOATIME),
    "defaults": (False, 0),
    "dev": (True, sc.MS_NODEV),
    "diratime": (True, sc.MS_NODIRATIME),
    "dirsync": (False, sc.MS_DIRSYNC),
    "exec": (True, sc.MS_NOEXEC),
    "iversion": (False, sc.MS_I_VERSION),
    "lazytime": (False, sc.MS_LAZYTIME),
    "loud": (True, sc.MS_SILENT),
    "mand": (False, sc.MS_MANDLOCK),
    "noacl": (True, sc.MS_POSIXACL),
    "noatime": (False, sc.MS_NOATIME),
    "nodev": (False, sc.MS_NODEV),
    "nodiratime": (False, sc.MS_NODIRATIME),
    "noexec": (False, sc.MS_NOEXEC),
    "noiversion": (True, sc.MS_I_VERSION),
    "nolazytime": (True, sc.MS_LAZYTIME),
    "nomand": (True, sc.MS_MANDLOCK),
    "norelatime": (True, sc.MS_RELATIME),
    "nostrictatime": (True, sc.MS_STRICTATIME),
    "nosuid": (False, sc.MS_NOSUID),
    "nosymfollow": (False, sc.MS_NOSYMFOLLOW),
    "relatime": (False, sc.MS_RELATIME),
    "ro": (False, sc.MS_RDONLY),
    "rw": (True, sc.MS_RDONLY),
    "silent": (False, sc.MS_SILENT),
    "strictatime": (False, sc.MS_STRICTATIME),
    "suid": (True, sc.MS_NOSUID),
    "symfollow": (True, sc.MS_NOSYMFOLLOW),
    "sync": (False, sc.MS_SYNCHRONOUS),
}
#: option -> (flag, recursive)
PROPAGATION: dict[str, tuple[int, bool]] = {
    "private": (sc.MS_PRIVATE, False),
    "rprivate": (sc.MS_PRIVATE, True),
    "shared": (sc.MS_SHARED, False),
    "rshared": (sc.MS_SHARED, True),
    "slave": (sc.MS_SLAVE, False),
    "rslave": (sc.MS_SLAVE, True),
    "unbindable": (sc.MS_UNBINDABLE, False),
    "runbindable": (sc.MS_UNBINDABLE, True),
}
#: option -> (clear, attribute of mount_setattr(2) for the whole tree)
_RECURSIVE: dict[str, tuple[bool, int]] = {
    "rro": (False, sc.MOUNT_ATTR_RDONLY),
    "rrw": (True, sc.MOUNT_ATTR_RDONLY),
    "rnosuid": (False, sc.MOUNT_ATTR_NOSUID),
    "rsuid": (True, sc.MOUNT_ATTR_NOSUID),
    "rnodev": (False, sc.MOUNT_ATTR_NODEV),
    "rdev": (True, sc.MOUNT_ATTR_NODEV),
    "rnoexec": (False, sc.MOUNT_ATTR_NOEXEC),
    "rexec": (True, sc.MOUNT_ATTR_NOEXEC),
    "rnodiratime": (False, sc.MOUNT_ATTR_NODIRATIME),
    "rdiratime": (True, sc.MOUNT_ATTR_NODIRATIME),
    "rnosymfollow": (False, sc.MOUNT_ATTR_NOSYMFOLLOW),
    "rsymfollow": (True, sc.MOUNT_ATTR_NOSYMFOLLOW),
}
_ATTRIBUTES = {
    sc.MS_RDONLY: sc.MOUNT_ATTR_RDONLY,
    sc.MS_NOSUID: sc.MOUNT_ATTR_NOSUID,
    sc.MS_NODEV: sc.MOUNT_ATTR_NODEV,
    sc.MS_NOEXEC: sc.MOUNT_ATTR_NOEXEC,
    sc.MS_NODIRATIME: sc.MOUNT_ATTR_NODIRATIME,
    sc.MS_NOSYMFOLLOW: sc.MOUNT_ATTR_NOSYMFOLLOW,
}
#: Flags of mount(2) that are options of the file system for fsconfig(2).
_SUPERBLOCK = {
    "ro": sc.MS_RDONLY,
    "sync": sc.MS_SYNCHRONOUS,
    "dirsync": sc.MS_DIRSYNC,
    "lazytime": sc.MS_LAZYTIME,
    "mand": sc.MS_MANDLOCK,
    "iversion": sc.MS_I_VERSION,
}
#: Mount a directory, or a file, of the file system instead of its root (mount(8)).
SUBDIR = "X-mount.subdir="


def attributes_of(flags: int) -> int:
    """Flags of mount(2) as MOUNT_ATTR_* bits."""
    result = 0
    for flag, attribute in _ATTRIBUTES.items():
        if flags & flag:
            result |= attribute
    if flags & sc.MS_NOATIME:
        result |= sc.MOUNT_ATTR_NOATIME
    elif flags & sc.MS_STRICTATIME:
        result |= sc.MOUNT_ATTR_STRICTATIME
    return result


@dataclass
class MountPlan:
    """One mount of the spec, ready to be made.

    ``flags`` are mount(2)'s; ``recursive_set``/``recursive_clear`` attributes of the whole tree;
    ``propagation`` (flag, recursive) pairs in order; ``data`` is for the file system. With ``subdir``
    only that path of the file system is mounted, a file or a directory (as mount(8)'s option).
    """

    type: str
    source: str
    destination: str
    flags: int = 0
    bind: bool = False
    recursive: bool = False
    recursive_set: int = 0
    recursive_clear: int = 0
    propagation: list[tuple[int, bool]] = field(default_factory=list)
    data: list[str] = field(default_factory=list)
    copy_up: bool = False
    subdir: str = ""

    @property
    def attributes(self) -> int:
        """``flags`` in mount_setattr(2)'s terms."""
        return attributes_of(self.flags)

    @property
    def superblock_options(self) -> list[str]:
        """The file system's own options, with the flags that belong to it rather than to the mount."""
        names = [name for name, flag in _SUPERBLOCK.items() if self.flags & flag]
        return names + self.data


def parse(mount: oci.Mount) -> MountPlan:
    """Raises InvalidParameter for a relative destination, Unimplemented for id-mapped mounts."""
    if mount.uid_mappings or mount.gid_mappings:
        raise Unimplemented(f"id-mapped mounts are not implemented (mount of {mount.destination})")
    if not mount.destination:
        raise InvalidParameter("mount destination is empty")
    destination = mount.destination if mount.destination.startswith("/") else "/" + mount.destination
    plan = MountPlan(mount.type, mount.source, destination, bind=mount.type == "bind")
    for option in mount.options:
        _apply(plan, option)
    return plan


def _apply(plan: MountPlan, option: str) -> None:
    if option in ("bind", "rbind"):
        plan.bind, plan.recursive = True, plan.recursive or option == "rbind"
    elif option in _FLAGS:
        clear, flag = _FLAGS[option]
        plan.flags = plan.flags & ~flag if clear else plan.flags | flag
    elif option in PROPAGATION:
        plan.propagation.append(PROPAGATION[option])
    elif option in _RECURSIVE:
        clear, attribute = _RECURSIVE[option]
        if clear:
            plan.recursive_clear |= attribute
            plan.recursive_set &= ~attribute
        else:
            plan.recursive_set |= attribute
            plan.recursive_clear &= ~attribute
    elif option.startswith(SUBDIR):
        plan.subdir = option.removeprefix(SUBDIR)
    elif option == "tmpcopyup":
        plan.copy_up = True
    elif option in ("idmap", "ridmap"):
        raise Unimplemented(f"mount option {option!r} is not implemented")
    else:
        plan.data.append(option)


def option_names() -> list[str]:
    """Every option with a meaning of its own here, sorted."""
    return sorted({"bind", "rbind", "tmpcopyup", *_FLAGS, *PROPAGATION, *_RECURSIVE})
