"""Container documents: configuration as sent to ``/containers/create``, and the views of it."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, UnsetType

from services.protocol.api.base import Model
from services.protocol.api.networks import EndpointSettings

ZERO_TIME = "0001-01-01T00:00:00Z"


class HealthConfig(Model, kw_only=True):
    """Durations in nanoseconds."""

    test: list[str] | UnsetType = UNSET
    interval: int | UnsetType = UNSET
    timeout: int | UnsetType = UNSET
    start_period: int | UnsetType = UNSET
    start_interval: int | UnsetType = UNSET
    retries: int | UnsetType = UNSET


class Config(Model, kw_only=True):
    """What depends on the image, not the host (moby ``container.Config``)."""

    hostname: str = ""
    domainname: str = ""
    user: str = ""
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    exposed_ports: dict[str, dict[str, Any]] | UnsetType = UNSET
    tty: bool = False
    open_stdin: bool = False
    stdin_once: bool = False
    env: list[str] | None = None
    cmd: list[str] | None = None
    healthcheck: HealthConfig | UnsetType = UNSET
    args_escaped: bool | UnsetType = UNSET
    image: str = ""
    volumes: dict[str, dict[str, Any]] | None = None
    working_dir: str = ""
    entrypoint: list[str] | None = None
    network_disabled: bool | UnsetType = UNSET
    mac_address: str | UnsetType = UNSET
    on_build: list[str] | UnsetType | None = UNSET
    labels: dict[str, str] | None = None
    stop_signal: str | UnsetType = UNSET
    stop_timeout: int | UnsetType = UNSET
    shell: list[str] | UnsetType = UNSET


class LogConfig(Model, kw_only=True):
    type_: str = ""
    config: dict[str, str] | None = None


class RestartPolicy(Model, kw_only=True):
    name: str = ""
    maximum_retry_count: int = 0


class PortBinding(Model, kw_only=True):
    host_ip: str = ""
    host_port: str = ""


class WeightDevice(Model, kw_only=True):
    path: str = ""
    weight: int = 0


class ThrottleDevice(Model, kw_only=True):
    path: str = ""
    rate: int = 0


class DeviceMapping(Model, kw_only=True):
    path_on_host: str = ""
    path_in_container: str = ""
    cgroup_permissions: str = ""


class DeviceRequest(Model, kw_only=True):
    driver: str = ""
    count: int = 0
    device_ids: list[str] | None = None
    capabilities: list[list[str]] | None = None
    options: dict[str, str] | None = None


class Ulimit(Model, kw_only=True):
    name: str = ""
    hard: int = 0
    soft: int = 0


class BindOptions(Model, kw_only=True):
    propagation: str | UnsetType = UNSET
    non_recursive: bool | UnsetType = UNSET
    create_mountpoint: bool | UnsetType = UNSET
    read_only_non_recursive: bool | UnsetType = UNSET
    read_only_force_recursive: bool | UnsetType = UNSET


class Driver(Model, kw_only=True):
    name: str | UnsetType = UNSET
    options: dict[str, str] | UnsetType = UNSET


class VolumeOptions(Model, kw_only=True):
    no_copy: bool | UnsetType = UNSET
    labels: dict[str, str] | UnsetType = UNSET
    subpath: str | UnsetType = UNSET
    driver_config: Driver | UnsetType = UNSET


class TmpfsOptions(Model, kw_only=True):
    size_bytes: int | UnsetType = UNSET
    mode: int | UnsetType = UNSET
    options: list[list[str]] | UnsetType = UNSET


class ImageOptions(Model, kw_only=True):
    subpath: str | UnsetType = UNSET


class Mount(Model, kw_only=True):
    """A ``--mount`` of the request."""

    type_: str | UnsetType = UNSET
    source: str | UnsetType = UNSET
    target: str | UnsetType = UNSET
    read_only: bool | UnsetType = UNSET
    consistency: str | UnsetType = UNSET
    bind_options: BindOptions | UnsetType = UNSET
    volume_options: VolumeOptions | UnsetType = UNSET
    image_options: ImageOptions | UnsetType = UNSET
    tmpfs_options: TmpfsOptions | UnsetType = UNSET
    cluster_options: dict[str, Any] | UnsetType = UNSET


class Resources(Model, kw_only=True):
    """Limits; what ``/containers/{id}/update`` takes. Bytes, microseconds, nano-CPUs."""

    cpu_shares: int = 0
    memory: int = 0
    nano_cpus: int = 0
    cgroup_parent: str = ""
    blkio_weight: int = 0
    blkio_weight_device: list[WeightDevice] | None = None
    blkio_device_read_bps: list[ThrottleDevice] | None = None
    blkio_device_write_bps: list[ThrottleDevice] | None = None
    blkio_device_read_iops: list[ThrottleDevice] | None = None
    blkio_device_write_iops: list[ThrottleDevice] | None = None
    cpu_period: int = 0
    cpu_quota: int = 0
    cpu_realtime_period: int = 0
    cpu_realtime_runtime: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    devices: list[DeviceMapping] | None = None
    device_cgroup_rules: list[str] | None = None
    device_requests: list[DeviceRequest] | None = None
    memory_reservation: int = 0
    memory_swap: int = 0
    memory_swappiness: int | None = None
    oom_kill_disable: bool | None = None
    pids_limit: int | None = None
    ulimits: list[Ulimit] | None = None
    cpu_count: int = 0
    cpu_percent: int = 0
    io_maximum_iops: int = 0
    io_maximum_bandwidth: int = 0


class HostConfig(Resources, kw_only=True):
    """What depends on the host (moby ``container.HostConfig``)."""

    binds: list[str] | None = None
    container_id_file: str = ""
    log_config: LogConfig | None = None
    network_mode: str = ""
    port_bindings: dict[str, list[PortBinding] | None] | None = None
    restart_policy: RestartPolicy | None = None
    auto_remove: bool = False
    volume_driver: str = ""
    volumes_from: list[str] | None = None
    console_size: list[int] | None = None
    annotations: dict[str, str] | UnsetType = UNSET
    cap_add: list[str] | None = None
    cap_drop: list[str] | None = None
    cgroupns_mode: str = ""
    dns: list[str] | None = None
    dns_options: list[str] | None = None
    dns_search: list[str] | None = None
    extra_hosts: list[str] | None = None
    group_add: list[str] | None = None
    ipc_mode: str = ""
    cgroup: str = ""
    links: list[str] | None = None
    oom_score_adj: int = 0
    pid_mode: str = ""
    privileged: bool = False
    publish_all_ports: bool = False
    readonly_rootfs: bool = False
    security_opt: list[str] | None = None
    storage_opt: dict[str, str] | UnsetType = UNSET
    tmpfs: dict[str, str] | UnsetType = UNSET
    uts_mode: str = ""
    userns_mode: str = ""
    shm_size: int = 0
    sysctls: dict[str, str] | UnsetType = UNSET
    runtime: str | UnsetType = UNSET
    isolation: str = ""
    mounts: list[Mount] | UnsetType = UNSET
    masked_paths: list[str] | None = None
    readonly_paths: list[str] | None = None
    init: bool | UnsetType = UNSET


class NetworkingConfig(Model, kw_only=True):
    endpoints_config: dict[str, EndpointSettings | None] | None = None


class CreateRequest(Config, kw_only=True):
    """Body of ``POST /containers/create``: Config inlined with the two other parts."""

    host_config: HostConfig | None = None
    networking_config: NetworkingConfig | None = None


class CreateReply(Model, kw_only=True):
    id: str
    warnings: list[str] = []


class HealthLog(Model, kw_only=True):
    start: str
    end: str
    exit_code: int
    output: str


class Health(Model, kw_only=True):
    status: str = "starting"
    failing_streak: int = 0
    log: list[HealthLog] | None = None


class State(Model, kw_only=True):
    status: str
    running: bool = False
    paused: bool = False
    restarting: bool = False
    oom_killed: bool = False
    dead: bool = False
    pid: int = 0
    exit_code: int = 0
    error: str = ""
    started_at: str = ZERO_TIME
    finished_at: str = ZERO_TIME
    health: Health | UnsetType = UNSET


class MountPoint(Model, kw_only=True):
    """A mount as ``inspect`` shows it."""

    type_: str | UnsetType = UNSET
    name: str | UnsetType = UNSET
    source: str = ""
    destination: str = ""
    driver: str | UnsetType = UNSET
    mode: str = ""
    rw: bool = True
    propagation: str = ""


class GraphDriverData(Model, kw_only=True):
    data: dict[str, str] | None = None
    name: str = ""


class NetworkSettings(Model, kw_only=True):
    sandbox_id: str = ""
    sandbox_key: str = ""
    ports: dict[str, list[PortBinding] | None] | None = None
    networks: dict[str, EndpointSettings] = {}


class Inspect(Model, kw_only=True):
    """``GET /containers/{id}/json``; API versions before 1.52 add fields in ``apiserver.views``."""

    id: str
    created: str
    path: str
    args: list[str]
    state: State
    image: str
    resolv_conf_path: str = ""
    hostname_path: str = ""
    hosts_path: str = ""
    log_path: str = ""
    name: str
    restart_count: int = 0
    driver: str = ""
    platform: str = "linux"
    mount_label: str = ""
    process_label: str = ""
    app_armor_profile: str = ""
    exec_ids: list[str] | None = None
    host_config: HostConfig
    graph_driver: GraphDriverData | UnsetType = UNSET
    size_rw: int | UnsetType = UNSET
    size_root_fs: int | UnsetType = UNSET
    mounts: list[MountPoint] = []
    config: Config
    network_settings: NetworkSettings


class Port(Model, kw_only=True):
    ip: str | UnsetType = UNSET
    private_port: int
    public_port: int | UnsetType = UNSET
    type_: str = "tcp"


class SummaryHostConfig(Model, kw_only=True):
    network_mode: str = ""
    annotations: dict[str, str] | UnsetType = UNSET


class SummaryNetworks(Model, kw_only=True):
    networks: dict[str, EndpointSettings] = {}


class SummaryHealth(Model, kw_only=True):
    failing_streak: int = 0
    status: str = "none"


class Summary(Model, kw_only=True):
    """One row of ``GET /containers/json``."""

    id: str
    names: list[str]
    image: str
    image_id: str
    command: str
    created: int
    ports: list[Port]
    size_rw: int | UnsetType = UNSET
    size_root_fs: int | UnsetType = UNSET
    labels: dict[str, str]
    state: str
    status: str
    host_config: SummaryHostConfig
    network_settings: SummaryNetworks
    mounts: list[MountPoint]
    health: SummaryHealth | UnsetType = UNSET


class WaitError(Model, kw_only=True):
    message: str


class WaitReply(Model, kw_only=True):
    status_code: int
    error: WaitError | UnsetType = UNSET


class TopReply(Model, kw_only=True):
    titles: list[str]
    processes: list[list[str]]


class UpdateRequest(Resources, kw_only=True):
    restart_policy: RestartPolicy | None = None


class WarningsReply(Model, kw_only=True):
    warnings: list[str] | None = None


class PruneReply(Model, kw_only=True):
    containers_deleted: list[str] | None = None
    space_reclaimed: int = 0


class FilesystemChange(Model, kw_only=True):
    """Kind: 0 modified, 1 added, 2 deleted."""

    path: str
    kind: int
