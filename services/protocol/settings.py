"""The daemon's merged settings, as ``wharfd`` leaves them in ``<exec-root>/settings.json``.

The command line and daemon.json are merged and checked by ``services.engine.config``; the services
read the outcome and nothing else. Names are daemon.json's with underscores.

``supervisor`` is the pid of the supervisor that the file was written for: a service waits for the
file of its own supervisor, so that it never starts with the options of an earlier run.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from pathlib import Path

import msgspec

from services.protocol.api.containers import Ulimit
from services.protocol.paths import ExecRoot

DEFAULT_DATA_ROOT = "/var/lib/wharfd"
DEFAULT_EXEC_ROOT = "/run/wharfd"
DEFAULT_HOST = "unix:///var/run/docker.sock"

#: Seconds that a service under a supervisor waits for its settings.
SETTINGS_TIMEOUT = 30.0
_POLL = 0.01


class AddressPool(msgspec.Struct, frozen=True):
    """Networks are cut from ``base`` (CIDR) in pieces of prefix length ``size``."""

    base: str
    size: int


class Settings(msgspec.Struct, kw_only=True, frozen=True):
    """Every setting that something implements; sizes in bytes, times in seconds."""

    hosts: list[str] = []
    group: str = "docker"
    data_root: str = DEFAULT_DATA_ROOT
    exec_root: str = DEFAULT_EXEC_ROOT
    pidfile: str = f"{DEFAULT_EXEC_ROOT}/wharfd.pid"
    config_file: str = "/etc/docker/daemon.json"
    debug: bool = False
    log_level: str = "info"
    labels: list[str] = []
    experimental: bool = False
    http_proxy: str = ""
    https_proxy: str = ""
    no_proxy: str = ""

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
    userland_proxy: bool = True
    default_address_pools: list[AddressPool] = []
    dns: list[str] = []
    dns_search: list[str] = []
    dns_opts: list[str] = []
    host_gateway_ips: list[str] = []

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
    max_concurrent_downloads: int = 3
    max_concurrent_uploads: int = 5
    max_download_attempts: int = 5

    supervisor: int = 0


def write(settings: Settings) -> Path:
    """Write *settings* below its exec root, which must exist; returns the path."""
    path = ExecRoot(Path(settings.exec_root)).settings
    fd, temporary = tempfile.mkstemp(dir=path.parent, prefix=".settings-")
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(settings)) + b"\n")
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    return path


def read(exec_root: Path) -> Settings:
    """The settings as they are now. Raises ``FileNotFoundError`` and ``msgspec.DecodeError``."""
    return msgspec.json.decode(ExecRoot(exec_root).settings.read_bytes(), type=Settings)


def load(exec_root: Path, timeout: float = SETTINGS_TIMEOUT) -> Settings:
    """The settings for this process: of its own supervisor, else what there is, else the defaults.

    Blocks, for at most *timeout* seconds, until the supervisor's settings are written: call it
    before the event loop runs. Raises ``TimeoutError``.
    """
    if not os.environ.get("SUPERVISOR_ENABLED"):
        try:
            return read(exec_root)
        except FileNotFoundError:
            return Settings(hosts=[DEFAULT_HOST], exec_root=str(exec_root), pidfile=f"{exec_root}/wharfd.pid")
    deadline = time.monotonic() + timeout
    while True:
        with contextlib.suppress(FileNotFoundError):
            settings = read(exec_root)
            if settings.supervisor == os.getppid():
                return settings
        if time.monotonic() > deadline:
            raise TimeoutError(f"{ExecRoot(exec_root).settings} was not written within {timeout:g} s")
        time.sleep(_POLL)
