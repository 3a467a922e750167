"""System documents: ``/info``, ``/version``, ``/system/df``."""

from __future__ import annotations

from msgspec import UNSET, UnsetType, field

from services.protocol.api.base import Model
from services.protocol.api.containers import Summary
from services.protocol.api.images import ImageSummary
from services.protocol.api.volumes import Volume


class Commit(Model, kw_only=True):
    id: str = field(name="ID", default="")


class Plugins(Model, kw_only=True):
    volume: list[str]
    network: list[str]
    authorization: list[str] | None = None
    log: list[str]


class IndexConfig(Model, kw_only=True):
    name: str
    mirrors: list[str] = []
    secure: bool
    official: bool


class RegistryConfig(Model, kw_only=True):
    insecure_registry_cidrs: list[str] = field(name="InsecureRegistryCIDRs", default_factory=list)
    index_configs: dict[str, IndexConfig]
    mirrors: list[str] = []


class RuntimeInfo(Model, kw_only=True):
    path: str = field(name="path")
    status: dict[str, str] | UnsetType = field(name="status", default=UNSET)


class Swarm(Model, kw_only=True):
    node_id: str = field(name="NodeID", default="")
    node_addr: str = ""
    local_node_state: str = "inactive"
    control_available: bool = False
    error: str = ""
    remote_managers: list[str] | None = None


class FirewallBackend(Model, kw_only=True):
    driver: str
    info: list[list[str]] = []


class PoolInfo(Model, kw_only=True):
    base: str
    size: int


class Info(Model, kw_only=True):
    """``GET /info``; sizes in bytes."""

    id: str = field(name="ID")
    containers: int
    containers_running: int
    containers_paused: int
    containers_stopped: int
    images: int
    driver: str
    driver_status: list[list[str]]
    plugins: Plugins
    memory_limit: bool
    swap_limit: bool
    cpu_cfs_period: bool
    cpu_cfs_quota: bool
    cpu_shares: bool = field(name="CPUShares")
    cpu_set: bool
    pids_limit: bool
    ipv4_forwarding: bool = field(name="IPv4Forwarding")
    debug: bool
    n_fd: int = field(name="NFd")
    oom_kill_disable: bool
    n_goroutines: int = field(name="NGoroutines")
    system_time: str
    logging_driver: str
    cgroup_driver: str
    cgroup_version: str
    n_events_listener: int = field(name="NEventsListener")
    kernel_version: str
    operating_system: str
    os_version: str = field(name="OSVersion")
    os_type: str = field(name="OSType")
    architecture: str
    index_server_address: str
    registry_config: RegistryConfig
    ncpu: int = field(name="NCPU")
    mem_total: int
    generic_resources: list[str] | None = None
    docker_root_dir: str
    http_proxy: str = ""
    https_proxy: str = ""
    no_proxy: str = ""
    name: str
    labels: list[str]
    experimental_build: bool
    server_version: str
    runtimes: dict[str, RuntimeInfo]
    default_runtime: str
    swarm: Swarm
    live_restore_enabled: bool
    isolation: str = ""
    init_binary: str
    containerd_commit: Commit
    runc_commit: Commit
    init_commit: Commit
    security_options: list[str]
    default_address_pools: list[PoolInfo] | UnsetType = UNSET
    firewall_backend: FirewallBackend
    cdi_spec_dirs: list[str] = field(name="CDISpecDirs", default_factory=list)
    warnings: list[str] | None = None


class Component(Model, kw_only=True):
    name: str
    version: str
    details: dict[str, str]


class Platform(Model, kw_only=True):
    name: str = ""


class Version(Model, kw_only=True):
    """``GET /version``."""

    platform: Platform
    version: str
    api_version: str
    min_api_version: str = field(name="MinAPIVersion")
    git_commit: str
    go_version: str
    os: str
    arch: str
    kernel_version: str
    experimental: bool | UnsetType = UNSET
    build_time: str
    components: list[Component]


class BuildCacheRecord(Model, kw_only=True):
    """``BuildCache`` of the API. Times are RFC 3339."""

    id: str = field(name="ID")
    parents: list[str]
    type: str
    description: str
    in_use: bool
    shared: bool
    size: int
    created_at: str
    last_used_at: str | None = None
    usage_count: int = 0


class DiskUsage(Model, kw_only=True):
    """``GET /system/df``; a part that was not asked for is null."""

    layers_size: int = 0
    images: list[ImageSummary] | None = None
    containers: list[Summary] | None = None
    volumes: list[Volume] | None = None
    build_cache: list[BuildCacheRecord] | None = None
