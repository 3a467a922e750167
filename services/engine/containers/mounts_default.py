"""The mounts every container has (moby ``daemon/pkg/oci/defaults.go``), and tmpfs options."""

from __future__ import annotations

from collections.abc import Sequence

from services.engine.containers.model import Container, Entry
from services.engine.containers.mount_modes import DEFAULT_PROPAGATION, PROPAGATIONS
from services.protocol import oci
from services.protocol.errors import InvalidParameter

SHM = "/dev/shm"
#: Writable even when the root is read-only.
_ALWAYS_WRITABLE = frozenset({"/proc", "/dev/pts", SHM, "/dev/mqueue", "/dev"})

#: Pairs of mount flags that undo each other; a later one replaces an earlier.
_FLAG_GROUPS: tuple[frozenset[str], ...] = (
    frozenset({"ro", "rw"}),
    frozenset({"suid", "nosuid"}),
    frozenset({"dev", "nodev"}),
    frozenset({"exec", "noexec"}),
    frozenset({"sync", "async"}),
    frozenset({"remount"}),
    frozenset({"mand", "nomand"}),
    frozenset({"atime", "noatime"}),
    frozenset({"diratime", "nodiratime"}),
    frozenset({"relatime", "norelatime"}),
    frozenset({"strictatime", "nostrictatime"}),
    frozenset({"dirsync"}),
    PROPAGATIONS,
)
_DATA = frozenset({"size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol"})


def default_mounts(
    definition: Container, shm_owner: Entry | None, *, writable_cgroups: bool
) -> list[oci.Mount]:
    """In the order they are made; ``shm_owner`` is the container whose IPC is joined."""
    host = definition.host_config
    common = ["nosuid", "noexec", "nodev"]
    pts = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]
    ro = [] if host.privileged else ["ro"]
    cgroup_ro = [] if host.privileged or writable_cgroups else ["ro"]
    mounts = [
        _mount("/proc", "proc", common),
        _mount("/dev", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        _mount("/dev/pts", "devpts", pts),
        _mount("/sys", "sysfs", [*common, *ro]),
        _mount("/sys/fs/cgroup", "cgroup", [*cgroup_ro, *common]),
        _mount("/dev/mqueue", "mqueue", common),
    ]
    if (shm := _shm(definition, shm_owner)) is not None:
        mounts.append(shm)
    return mounts


def _mount(destination: str, kind: str, options: list[str]) -> oci.Mount:
    return oci.Mount(destination=destination, type=kind, source=kind, options=options)


def _shm(definition: Container, owner: Entry | None) -> oci.Mount | None:
    """None of one's own for ``none``; the host's or the donor's where IPC is theirs."""
    host = definition.host_config
    bind = ["rbind", "nosuid", "noexec", "nodev", DEFAULT_PROPAGATION]
    if owner is not None:
        source = f"/proc/{owner.state.pid}/root{SHM}"
        return oci.Mount(destination=SHM, type="bind", source=source, options=bind)
    if host.ipc_mode == "none":
        return None
    if host.ipc_mode == "host":
        return oci.Mount(destination=SHM, type="bind", source=SHM, options=bind)
    options = ["nosuid", "noexec", "nodev", "mode=1777", f"size={host.shm_size}"]
    return oci.Mount(destination=SHM, type="tmpfs", source="shm", options=options)


def read_only_root(mounts: Sequence[oci.Mount], users: set[str]) -> None:
    """Make what a read-only root shall not leave writable read-only too, but for users' mounts."""
    for mount in mounts:
        if mount.destination not in _ALWAYS_WRITABLE | users and "ro" not in mount.options:
            mount.options = [*mount.options, "ro"]


def tmpfs_mount(destination: str, options: Sequence[str]) -> oci.Mount:
    """A user's tmpfs; raises ``InvalidParameter`` for an option that is none."""
    merged = merge_options(["noexec", "nosuid", "nodev", DEFAULT_PROPAGATION, *options])
    return oci.Mount(destination=destination, type="tmpfs", source="tmpfs", options=merged)


def merge_options(options: Sequence[str]) -> list[str]:
    """Each flag and each value once, the last said."""
    merged: dict[object, str] = {}
    for option in options:
        if not option or option == "defaults":
            continue
        key: object = next((group for group in _FLAG_GROUPS if option in group), None)
        if key is None:
            name, equals, _ = option.partition("=")
            if not equals or name not in _DATA:
                raise InvalidParameter(f'invalid tmpfs option "{name}"')
            key = name
        merged.pop(key, None)
        merged[key] = option
    return list(merged.values())
