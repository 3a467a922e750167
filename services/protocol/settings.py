"""The daemon's merged settings, as ``wharfd`` leaves them in ``<exec-root>/settings.json``.

The command line and daemon.json are merged and checked by ``services.engine.config``; the services
read the outcome and nothing else. Names are daemon.json's with underscores.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from services.protocol.api.containers import Ulimit
from services.protocol.paths import ExecRoot


class AddressPool(msgspec.Struct, frozen=True):
    """Networks are cut from ``base`` (CIDR) in pieces of prefix length ``size``."""

    base: str
    size: int


class Settings(msgspec.Struct, kw_only=True, frozen=True):
    """Every setting that something implements; sizes in bytes, times in seconds."""

    hosts: list[str] = []
    group: str = "docker"
    data_root: str = "/var/lib/wharfd"
    exec_root: str = "/run/wharfd"
    pidfile: str = "/run/wharfd/wharfd.pid"
    config_file: str = "/etc/docker/daemon.json"
    debug: bool = False
    log_level: str = "info"
    labels: list[str] = []
    experimental: bool = False

    storage_driver: str = ""
    storage_opts: list[str] = []

    bridge: str = ""
    bip: str = ""
    fixed_cidr: str = ""
    default_gateway: str = ""
    mtu: int = 1500
    icc: bool = True
    ip: str = "0.0.0.0"
    ip_masq: bool = True
    ip_forward: bool = True
    iptables: bool = True
    default_address_pools: list[AddressPool] = []
    dns: list[str] = []
    dns_search: list[str] = []
    dns_opts: list[str] = []

    log_driver: str = "json-file"
    log_opts: dict[str, str] = {}
    default_shm_size: int = 64 * 1024 * 1024
    default_stop_timeout: int = 10
    default_ulimits: list[Ulimit] = []
    default_ipc_mode: str = "private"
    default_cgroupns_mode: str = ""
    default_runtime: str = "runc"
    cgroup_parent: str = ""
    init: bool = False
    no_new_privileges: bool = False
    seccomp_profile: str = "builtin"

    live_restore: bool = False
    shutdown_timeout: int = 15
    registry_mirrors: list[str] = []
    insecure_registries: list[str] = []


def load(exec_root: Path) -> Settings:
    """The settings of the daemon at *exec_root*; defaults when it was started by hand."""
    try:
        data = ExecRoot(exec_root).settings.read_bytes()
    except FileNotFoundError:
        return Settings(exec_root=str(exec_root), pidfile=str(exec_root / "wharfd.pid"))
    return msgspec.json.decode(data, type=Settings)
