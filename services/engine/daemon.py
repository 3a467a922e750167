"""Builds the managers, in boot order, and takes them down in reverse. No method per verb.

Boot: directories, TMPDIR, task service, graph driver and layers, images, volumes, networks, containers
restored, verbs registered, sockets bound ("initialization complete"). Shutdown: stop accepting,
containers (unless they are to live on), networks, the shim connection, the database.
"""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec

from services.engine import proxies
from services.engine.builder import verbs as builder_verbs
from services.engine.builder.build import Builder
from services.engine.builder.cache import SCHEMA as BUILDS
from services.engine.builder.cache import BuildCache
from services.engine.containers import archive, commit, lifecycle_verbs, restore, shutdown, users, verbs
from services.engine.containers.networked import NetworkedContainers
from services.engine.containers.registry import SCHEMA as CONTAINERS
from services.engine.containers.registry import Registry
from services.engine.containers.services import Services
from services.engine.descriptors import Descriptors
from services.engine.events import Events
from services.engine.graphdrivers.choose import choose
from services.engine.helpers import ZygoteHelpers
from services.engine.images import SCHEMA as IMAGES
from services.engine.images import ImageManager, transfer_verbs
from services.engine.images import verbs as image_verbs
from services.engine.images.layerblobs import SCHEMA as LAYER_BLOBS
from services.engine.images.transfers import Transfers
from services.engine.layers import SCHEMA as LAYERS
from services.engine.layers import LayerManager
from services.engine.networks import verbs as network_verbs
from services.engine.networks.controller import NetworkController
from services.engine.networks.model import SCHEMA as NETWORKS
from services.engine.networks.model import NetworkSettings
from services.engine.registry import RegistryClient
from services.engine.rpc import Router
from services.engine.scopes import Background, shielded
from services.engine.shims import Shims
from services.engine.store import Store
from services.engine.system.manager import System
from services.engine.volumes import SCHEMA as VOLUMES
from services.engine.volumes import VolumeManager
from services.engine.volumes import verbs as volume_verbs
from services.protocol import settings as settings_file
from services.protocol.paths import ExecRoot
from services.protocol.settings import Settings

log = logging.getLogger(__name__)

#: Seconds that requests in flight have when the engine stops.
DRAIN = 5.0


class Daemon:
    """The managers of one engine, and the order in which they end."""

    def __init__(self, services: Services, router: Router, resources: AsyncExitStack) -> None:
        self._services = services
        self._router = router
        self._resources = resources

    @classmethod
    async def boot(cls, settings: Settings) -> Daemon:
        """Everything up to, not including, taking requests. What was made is undone on failure."""
        async with AsyncExitStack() as stack:
            exec_root = ExecRoot(Path(settings.exec_root))
            data_root = _prepare_roots(Path(settings.data_root), exec_root)
            descriptors = Descriptors(exec_root)
            stack.callback(descriptors.close)
            router = Router(exec_root, descriptors.take)
            stack.push_async_callback(router.close)
            services, builder = await _build(settings, data_root, exec_root, router, stack)
            await restore.restore(services)
            await builder.recover()
            await services.volumes.sweep()
            descriptors.listen()
            router.bind()
            return cls(services, router, stack.pop_all())

    async def serve(self, stopping: asyncio.Event) -> None:
        """Serve until *stopping* is set, then shut down."""
        async with self._resources:
            log.info("initialization complete")
            serving = self._services.background.spawn(self._router.serve(), name="serve")
            await stopping.wait()
            serving.cancel()
            await self._stop_containers()
            # A start that is cut off would take the streams of its clients with it.
            await self._router.drain(DRAIN)

    def reload(self) -> None:
        """SIGHUP: ``wharfd`` has merged daemon.json again and replaced the settings file."""
        try:
            self._services.settings = settings_file.load(self._services.exec_root.root)
        except msgspec.MsgspecError as error:
            log.error("configuration is not reloaded: %s", error)
            return
        debug = self._services.settings.debug
        logging.getLogger().setLevel(logging.DEBUG if debug else logging.INFO)
        log.info("configuration is reloaded")

    async def _stop_containers(self) -> None:
        services = self._services
        # Imported here: its HTTP client takes 1 MB, and is needed once, at the end.
        from services.engine import supervision

        ending = await asyncio.to_thread(supervision.daemon_is_stopping)
        if not ending:
            log.info("stopping; the containers live on")
            return
        log.info("the daemon is stopping, and its containers with it")
        await shielded(
            shutdown.shutdown(services, services.settings.shutdown_timeout),
            services.settings.shutdown_timeout + 10.0,
        )


def _prepare_roots(data_root: Path, exec_root: ExecRoot) -> Path:
    """Both roots made and private; returns the data root without symlinks."""
    exec_root.shims.mkdir(mode=0o711, parents=True, exist_ok=True)
    data_root.mkdir(mode=0o710, parents=True, exist_ok=True)
    data_root = data_root.resolve()
    temporary = data_root / "tmp"
    temporary.mkdir(mode=0o700, exist_ok=True)
    (data_root / "containers").mkdir(mode=0o710, exist_ok=True)
    os.environ["TMPDIR"] = tempfile.tempdir = str(temporary)
    return data_root


async def _build(
    settings: Settings, data_root: Path, exec_root: ExecRoot, router: Router, stack: AsyncExitStack
) -> tuple[Services, Builder]:
    store = Store(
        data_root / "engine.db", (LAYERS, IMAGES, LAYER_BLOBS, VOLUMES, NETWORKS, CONTAINERS, BUILDS)
    )
    stack.callback(store.close)
    shims = Shims(exec_root.shim_service)
    stack.push_async_callback(shims.close)
    background = Background("containers")
    stack.push_async_callback(background.close)
    events = Events(router.publish)
    registry = Registry(store)
    in_use = users.of(registry)
    await shims.ready()
    proxies.apply(settings)
    helpers = ZygoteHelpers(exec_root, proxies.variables())
    driver = await asyncio.to_thread(
        choose, data_root, settings.storage_driver, settings.storage_opts, helpers
    )
    layers = LayerManager(store, driver, helpers, data_root)
    stack.push_async_callback(layers.close)
    registries = RegistryClient(helpers, lambda: services.settings)
    images = ImageManager(store, layers, events, helpers, data_root, in_use)
    volumes = VolumeManager(store, events, data_root, in_use)
    networks = NetworkController(store, events, _network_settings(settings, exec_root))
    stack.push_async_callback(networks.close)
    services = Services(
        settings=settings,
        data_root=data_root,
        exec_root=exec_root,
        registry=registry,
        events=events,
        images=images,
        layers=layers,
        networks=networks,
        volumes=volumes,
        shims=shims,
        background=background,
    )
    networks.bind(NetworkedContainers(services))
    verbs.register(router, services)
    lifecycle_verbs.register(router, services)
    archive.register(router, services)
    commit.register(router, services)
    image_verbs.register(router, images)
    transfers = Transfers(
        images.store, layers, events, registries, store, data_root, lambda: services.settings
    )
    stack.push_async_callback(transfers.close)
    transfer_verbs.register(router, transfers, registries, images)
    builder = Builder(services, images, layers, helpers, BuildCache(store, images), background, transfers)
    builder_verbs.register(router, builder)
    System(services, builder.records.private).register(router)
    volume_verbs.register(router, volumes)
    network_verbs.register(router, networks)
    return services, builder


def _network_settings(settings: Settings, exec_root: ExecRoot) -> NetworkSettings:
    defaults = NetworkSettings()
    return NetworkSettings(
        bridge=settings.bridge or defaults.bridge,
        bip=settings.bip,
        fixed_cidr=settings.fixed_cidr,
        default_gateway=settings.default_gateway,
        mtu=settings.mtu,
        icc=settings.icc,
        ip_masq=settings.ip_masq,
        default_binding=settings.ip,
        firewall=settings.iptables,
        ip_forward=settings.ip_forward,
        host_gateway_ips=tuple(settings.host_gateway_ips),
        address_pools=tuple(settings.default_address_pools) or defaults.address_pools,
        dns=tuple(settings.dns),
        dns_search=tuple(settings.dns_search),
        dns_options=tuple(settings.dns_opts),
        zygote=str(exec_root.zygote),
        userland_proxy=settings.userland_proxy,
    )
