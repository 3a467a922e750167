"""OCI runtime-spec documents (config.json, version 1.2), as far as engine and runtime use them.

Field names are the specification's (camelCase); absent fields are ``None``.
"""

from __future__ import annotations

from typing import Any

import msgspec


class OciModel(msgspec.Struct, rename="camel", omit_defaults=True):
    pass


class User(OciModel, kw_only=True):
    uid: int = 0
    gid: int = 0
    umask: int | None = None
    additional_gids: list[int] = []


class Box(OciModel, kw_only=True):
    height: int = 0
    width: int = 0


class Rlimit(OciModel, kw_only=True):
    type: str
    soft: int
    hard: int


class Capabilities(OciModel, kw_only=True):
    bounding: list[str] = []
    effective: list[str] = []
    inheritable: list[str] = []
    permitted: list[str] = []
    ambient: list[str] = []


class Process(OciModel, kw_only=True):
    terminal: bool = False
    console_size: Box | None = None
    user: User = msgspec.field(default_factory=User)
    args: list[str] = []
    env: list[str] = []
    cwd: str = "/"
    capabilities: Capabilities | None = None
    rlimits: list[Rlimit] = []
    no_new_privileges: bool = False
    apparmor_profile: str = ""
    oom_score_adj: int | None = None
    selinux_label: str = ""
    scheduler: dict[str, Any] | None = None
    io_priority: dict[str, Any] | None = None


class Root(OciModel, kw_only=True):
    path: str
    readonly: bool = False


class IDMapping(OciModel, kw_only=True):
    container_id: int = msgspec.field(name="containerID")
    host_id: int = msgspec.field(name="hostID")
    size: int


class Mount(OciModel, kw_only=True):
    destination: str
    type: str = ""
    source: str = ""
    options: list[str] = []
    uid_mappings: list[IDMapping] = []
    gid_mappings: list[IDMapping] = []


class Namespace(OciModel, kw_only=True):
    """``type`` is one of pid, network, mount, ipc, uts, user, cgroup, time."""

    type: str
    path: str = ""


class Device(OciModel, kw_only=True):
    path: str
    type: str
    major: int = 0
    minor: int = 0
    file_mode: int | None = None
    uid: int | None = None
    gid: int | None = None


class DeviceCgroup(OciModel, kw_only=True):
    allow: bool
    type: str = "a"
    major: int | None = None
    minor: int | None = None
    access: str = "rwm"


class Memory(OciModel, kw_only=True):
    """Bytes; -1 is unlimited."""

    limit: int | None = None
    reservation: int | None = None
    swap: int | None = None
    kernel: int | None = None
    kernel_tcp: int | None = msgspec.field(name="kernelTCP", default=None)
    swappiness: int | None = None
    disable_oom_killer: bool | None = msgspec.field(name="disableOOMKiller", default=None)
    use_hierarchy: bool | None = None
    check_before_update: bool | None = None


class Cpu(OciModel, kw_only=True):
    """Quota, periods and burst in microseconds."""

    shares: int | None = None
    quota: int | None = None
    burst: int | None = None
    period: int | None = None
    realtime_runtime: int | None = None
    realtime_period: int | None = None
    cpus: str | None = None
    mems: str | None = None
    idle: int | None = None


class Pids(OciModel, kw_only=True):
    limit: int


class WeightDevice(OciModel, kw_only=True):
    major: int
    minor: int
    weight: int | None = None
    leaf_weight: int | None = None


class ThrottleDevice(OciModel, kw_only=True):
    major: int
    minor: int
    rate: int


class BlockIO(OciModel, kw_only=True):
    weight: int | None = None
    leaf_weight: int | None = None
    weight_device: list[WeightDevice] = []
    throttle_read_bps_device: list[ThrottleDevice] = []
    throttle_write_bps_device: list[ThrottleDevice] = []
    throttle_read_iops_device: list[ThrottleDevice] = msgspec.field(name="throttleReadIOPSDevice", default=[])
    throttle_write_iops_device: list[ThrottleDevice] = msgspec.field(
        name="throttleWriteIOPSDevice", default=[]
    )


class HugepageLimit(OciModel, kw_only=True):
    page_size: str
    limit: int


class Resources(OciModel, kw_only=True):
    devices: list[DeviceCgroup] = []
    memory: Memory | None = None
    cpu: Cpu | None = None
    pids: Pids | None = None
    block_io: BlockIO | None = msgspec.field(name="blockIO", default=None)
    hugepage_limits: list[HugepageLimit] = []
    network: dict[str, Any] | None = None
    unified: dict[str, str] = {}


class SeccompArg(OciModel, kw_only=True):
    index: int
    value: int
    value_two: int = 0
    op: str


class SeccompRule(OciModel, kw_only=True):
    names: list[str]
    action: str
    errno_ret: int | None = None
    args: list[SeccompArg] = []


class Seccomp(OciModel, kw_only=True):
    """``default`` names wharfd's built-in profile when the rules are left to the runtime."""

    default_action: str
    default_errno_ret: int | None = None
    architectures: list[str] = []
    flags: list[str] = []
    listener_path: str = ""
    listener_metadata: str = ""
    syscalls: list[SeccompRule] = []


class Linux(OciModel, kw_only=True):
    uid_mappings: list[IDMapping] = []
    gid_mappings: list[IDMapping] = []
    sysctl: dict[str, str] = {}
    resources: Resources | None = None
    cgroups_path: str = ""
    namespaces: list[Namespace] = []
    devices: list[Device] = []
    seccomp: Seccomp | None = None
    rootfs_propagation: str = ""
    masked_paths: list[str] = []
    readonly_paths: list[str] = []
    mount_label: str = ""
    intel_rdt: dict[str, Any] | None = None
    personality: dict[str, Any] | None = None


class Hook(OciModel, kw_only=True):
    path: str
    args: list[str] = []
    env: list[str] = []
    timeout: int | None = None


class Hooks(OciModel, kw_only=True):
    prestart: list[Hook] = []
    create_runtime: list[Hook] = []
    create_container: list[Hook] = []
    start_container: list[Hook] = []
    poststart: list[Hook] = []
    poststop: list[Hook] = []


class Spec(OciModel, kw_only=True):
    """A bundle's ``config.json``."""

    oci_version: str = "1.2.0"
    process: Process | None = None
    root: Root | None = None
    hostname: str = ""
    domainname: str = ""
    mounts: list[Mount] = []
    hooks: Hooks | None = None
    annotations: dict[str, str] = {}
    linux: Linux | None = None


class State(OciModel, kw_only=True):
    """What ``state`` prints and hooks read: creating, created, running, paused or stopped."""

    oci_version: str
    id: str
    status: str
    pid: int = 0
    bundle: str
    annotations: dict[str, str] = {}
