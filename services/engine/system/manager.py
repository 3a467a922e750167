"""``/info``, ``/version``, ``/system/df`` and the history of events."""

from __future__ import annotations

import datetime
import os
import platform
import threading
from pathlib import Path

import msgspec

from services.engine import proxies
from services.engine.containers.model import Status
from services.engine.containers.services import Services
from services.engine.rpc import Context, Router
from services.engine.system import host
from services.engine.system.disk_usage import BuildCacheList, disk_usage
from services.protocol.api import system as api
from services.protocol.release import API_VERSION, DOCKER_VERSION, MIN_API_VERSION, WHARFD_VERSION, dotted
from services.protocol.verbs import Nothing
from services.protocol.verbs import system as verbs

_CGROUP_V1_WARNING = (
    "WARNING: Support for cgroup v1 is deprecated and planned to be removed by no later than May 2029 "
    "(https://github.com/moby/moby/issues/51111)"
)


class System:
    """Answers about the daemon as a whole; holds nothing but what does not change."""

    def __init__(self, services: Services, build_cache: BuildCacheList) -> None:
        self._services = services
        self._build_cache = build_cache
        self._id = host.engine_id(services.data_root)
        self._os_name, self._os_version = host.operating_system()
        self._unified = host.is_unified_cgroup()

    def register(self, router: Router) -> None:
        router.add(verbs.INFO, self._info_verb)
        router.add(verbs.VERSION, self._version_verb)
        router.add(verbs.EVENTS, self._events_verb)
        router.add(verbs.DISK_USAGE, self._disk_usage_verb)

    async def _info_verb(self, args: Nothing, context: Context) -> bytes:
        return msgspec.json.encode(self.info())

    async def _version_verb(self, args: Nothing, context: Context) -> bytes:
        return msgspec.json.encode(self.version())

    async def _events_verb(self, args: verbs.HistoryArgs, context: Context) -> verbs.History:
        return self._services.events.history(args.since, args.until)

    async def _disk_usage_verb(self, args: verbs.DiskUsageArgs, context: Context) -> bytes:
        return msgspec.json.encode(await disk_usage(self._services, self._build_cache, args.types))

    def info(self) -> api.Info:
        services, settings = self._services, self._services.settings
        statuses = [entry.state.status for entry in services.registry]
        running = sum(status in (Status.RUNNING, Status.RESTARTING) for status in statuses)
        paused = statuses.count(Status.PAUSED)
        outgoing = proxies.shown()
        return api.Info(
            id=self._id,
            containers=len(statuses),
            containers_running=running,
            containers_paused=paused,
            containers_stopped=len(statuses) - running - paused,
            images=services.images.count(),
            driver=services.layers.driver_name,
            driver_status=services.layers.driver_status(),
            plugins=api.Plugins(
                volume=["local"], network=["bridge", "host", "null"], log=["json-file", "local"]
            ),
            memory_limit=True,
            swap_limit=self._unified or Path("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes").exists(),
            cpu_cfs_period=True,
            cpu_cfs_quota=True,
            cpu_shares=True,
            cpu_set=True,
            pids_limit=True,
            ipv4_forwarding=host.read_flag("/proc/sys/net/ipv4/ip_forward"),
            debug=settings.debug,
            n_fd=len(os.listdir("/proc/self/fd")),
            oom_kill_disable=not self._unified,
            n_goroutines=threading.active_count(),
            system_time=datetime.datetime.now(datetime.UTC).isoformat().replace("+00:00", "Z"),
            logging_driver=settings.log_driver,
            cgroup_driver="cgroupfs",
            cgroup_version="2" if self._unified else "1",
            n_events_listener=0,
            kernel_version=platform.release(),
            operating_system=self._os_name,
            os_version=self._os_version,
            os_type="linux",
            architecture=platform.machine(),
            index_server_address="https://index.docker.io/v1/",
            registry_config=_registry_config(settings.registry_mirrors, settings.insecure_registries),
            ncpu=len(os.sched_getaffinity(0)),
            mem_total=host.memory_total(),
            docker_root_dir=str(services.data_root),
            http_proxy=outgoing.http,
            https_proxy=outgoing.https,
            no_proxy=outgoing.skipped,
            name=platform.node(),
            labels=settings.labels,
            experimental_build=settings.experimental,
            server_version=DOCKER_VERSION,
            runtimes={
                "runc": api.RuntimeInfo(path="wharfd-runtime"),
                "io.containerd.runc.v2": api.RuntimeInfo(path="wharfd-runtime"),
            },
            default_runtime=settings.default_runtime,
            swarm=api.Swarm(),
            live_restore_enabled=settings.live_restore,
            init_binary="docker-init",
            containerd_commit=api.Commit(),
            runc_commit=api.Commit(),
            init_commit=api.Commit(id="N/A"),
            security_options=_security_options(settings.seccomp_profile, settings.no_new_privileges),
            default_address_pools=[
                api.PoolInfo(base=pool.base, size=pool.size) for pool in settings.default_address_pools
            ]
            or msgspec.UNSET,
            firewall_backend=api.FirewallBackend(driver="nftables"),
            cdi_spec_dirs=[],
            warnings=None if self._unified else [_CGROUP_V1_WARNING],
        )

    def version(self) -> api.Version:
        kernel, arch = platform.release(), host.go_architecture()
        implementation = f"{platform.python_implementation().lower()}{platform.python_version()}"
        engine = api.Component(
            name="Engine",
            version=DOCKER_VERSION,
            details={
                "ApiVersion": dotted(API_VERSION),
                "Arch": arch,
                "BuildTime": "",
                "Experimental": str(self._services.settings.experimental).lower(),
                "GitCommit": f"wharfd-{WHARFD_VERSION}",
                "GoVersion": implementation,
                "KernelVersion": kernel,
                "MinAPIVersion": dotted(MIN_API_VERSION),
                "Os": "linux",
            },
        )
        own = {"GitCommit": ""}
        return api.Version(
            platform=api.Platform(),
            version=DOCKER_VERSION,
            api_version=dotted(API_VERSION),
            min_api_version=dotted(MIN_API_VERSION),
            git_commit=f"wharfd-{WHARFD_VERSION}",
            go_version=implementation,
            os="linux",
            arch=arch,
            kernel_version=kernel,
            build_time="",
            components=[
                engine,
                api.Component(name="containerd-shim", version=WHARFD_VERSION, details=own),
                api.Component(name="wharfd-runtime", version=WHARFD_VERSION, details=own),
            ],
        )


def _registry_config(mirrors: list[str], insecure: list[str]) -> api.RegistryConfig:
    cidrs = ["::1/128", "127.0.0.0/8", *(item for item in insecure if "/" in item)]
    index = {"docker.io": api.IndexConfig(name="docker.io", mirrors=mirrors, secure=True, official=True)}
    for name in insecure:
        if "/" not in name:
            index[name] = api.IndexConfig(name=name, secure=False, official=False)
    return api.RegistryConfig(insecure_registry_cidrs=cidrs, index_configs=index, mirrors=mirrors)


def _security_options(seccomp_profile: str, no_new_privileges: bool) -> list[str]:
    options = [f"name=seccomp,profile={seccomp_profile}"]
    if no_new_privileges:
        options.append("name=no-new-privileges")
    return options
