"""Creating a container: checked, named, given a layer and volumes, written down, announced.

The order is Docker's, because it decides which of several mistakes the user reads about. All that
was acquired is given back in reverse when a later step fails; what a crash leaves behind (layer,
directory, anonymous volumes) is swept at start-up, as no container is known that has it.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
import time
from pathlib import Path

from msgspec import UNSET

from services.engine.containers import image_mounts, names, security
from services.engine.containers.announce import announce
from services.engine.containers.endpoints import fill_endpoints, requested_endpoints
from services.engine.containers.host_defaults import fill_before_checks, fill_defaults
from services.engine.containers.ids import SHORT, new_id
from services.engine.containers.image_config import command_line, merge_image_config
from services.engine.containers.links import resolve_links
from services.engine.containers.model import Container, ContainerState, Entry
from services.engine.containers.mount_parse import collect
from services.engine.containers.prepared import log_path
from services.engine.containers.services import Services
from services.engine.containers.sysinfo import sysinfo
from services.engine.containers.validate.config import check_config
from services.engine.containers.validate.host import check_host, check_implemented, check_isolation
from services.engine.containers.validate.interface_sysctls import adapt_sysctls
from services.engine.containers.validate.legacy import (
    Endpoints,
    adapt_default_network,
    adapt_mac_address,
    adapt_port_bindings,
    adapt_version,
    volume_driver_warnings,
)
from services.engine.containers.validate.logging import merge_log_config
from services.engine.containers.validate.network import check_network_mode
from services.engine.containers.validate.resources import check_early
from services.engine.containers.volumes_create import create_volumes, fill_volumes, settle
from services.engine.contracts import Image
from services.engine.registry import platforms
from services.engine.rpc import Context
from services.engine.scopes import Undo, checkpoint
from services.protocol.api.containers import Config, CreateReply, CreateRequest, HostConfig
from services.protocol.errors import InvalidParameter, SystemError_
from services.protocol.verbs.containers import CreateArgs

#: API version since which a read-only bind is read-only recursively.
_RECURSIVE_READ_ONLY = (1, 44)
_LINKS_DEPRECATED = (
    "Links on the default bridge network are deprecated and will be removed in a future release. "
    "Use a custom network instead."
)


async def create(services: Services, args: CreateArgs, context: Context) -> CreateReply:
    """Raises ``InvalidParameter``, ``NotFound`` (image, ...), ``Conflict`` (name), ``SystemError_``.

    A request that is repeated after a crash of the engine gets the container it made.
    """
    if context.attempt > 1 and (made := _made_by(services, context.request_id)) is not None:
        return CreateReply(id=made)
    config, host, endpoints, warnings = _check(services, args)
    image = _image(services, config, args.platform)
    if image is not None and not args.platform:
        warnings += platforms.foreign(image.os, image.architecture)
    entry = await _create(services, args, context, config, host, endpoints, image)
    announce(services, entry, "create")
    return CreateReply(id=entry.id, warnings=warnings)


def check_request(services: Services, request: CreateRequest, api_version: tuple[int, int]) -> list[str]:
    """Raises what :func:`create` would raise for *request* by itself; returns the warnings."""
    *_, warnings = _check(services, CreateArgs("", request, api_version=api_version))
    return warnings


def _made_by(services: Services, request_id: str) -> str | None:
    return next((e.id for e in services.registry if e.definition.request_id == request_id), None)


def _check(services: Services, args: CreateArgs) -> tuple[Config, HostConfig, Endpoints, list[str]]:
    """The request taken apart, adapted to its API version and checked; with the warnings."""
    config, host = _split(args.request)
    info = sysinfo()
    endpoints = requested_endpoints(args.request.networking_config)
    adapt_default_network(host, endpoints)
    check_network_mode(config, host)
    check_isolation(host)
    check_early(host, info)
    adapt_version(config, host, endpoints, args.api_version)
    late_warnings = volume_driver_warnings(host, args.api_version)
    late_warnings += adapt_mac_address(config, host, endpoints, args.api_version)
    late_warnings += adapt_sysctls(host, endpoints, args.api_version)
    late_warnings += adapt_port_bindings(host, args.api_version)
    fill_before_checks(host)
    check_config(config)
    warnings = check_host(services.settings, host, info)
    check_implemented(host)
    services.networks.check(host.network_mode, endpoints)
    fill_defaults(services.settings, services.registry, host)
    fill_endpoints(config, host, endpoints)
    if host.links and host.network_mode == "bridge":
        warnings.append(_LINKS_DEPRECATED)
    return config, host, endpoints, warnings + late_warnings


def _split(request: CreateRequest) -> tuple[Config, HostConfig]:
    config = Config(**{field: getattr(request, field) for field in Config.__struct_fields__})
    if config.on_build is None:
        config.on_build = UNSET  # clients send null for what inspect does not show
    return config, request.host_config or HostConfig()


def _image(services: Services, config: Config, platform: str) -> Image | None:
    return services.images.resolve(config.image, platform) if config.image else None


async def _create(
    services: Services,
    args: CreateArgs,
    context: Context,
    config: Config,
    host: HostConfig,
    endpoints: Endpoints,
    image: Image | None,
) -> Entry:
    merge_image_config(config, image.config if image else None)
    host.log_config = merge_log_config(services.settings, host.log_config)
    container_id = new_id()
    async with Undo() as undo:
        name = names.reserve(services.registry, args.name, container_id)
        undo.push(lambda: _release_name(services, name, container_id))
        definition = _define(services, container_id, name, config, host, endpoints, image)
        definition.request_id = context.request_id
        entry = Entry(definition, ContainerState())
        await _acquire(services, entry, undo, old_read_only=args.api_version < _RECURSIVE_READ_ONLY)
        await services.registry.add(entry)
        undo.push(lambda: services.registry.discard(entry))
        checkpoint()
        undo.keep()
    settle(services.container_dir(container_id))
    return entry


def _define(
    services: Services,
    container_id: str,
    name: str,
    config: Config,
    host: HostConfig,
    endpoints: Endpoints,
    image: Image | None,
) -> Container:
    options = security.parse(host.security_opt, no_new_privileges=services.settings.no_new_privileges)
    if not config.hostname:
        config.hostname = socket.gethostname() if host.network_mode == "host" else container_id[:SHORT]
    path, arguments = command_line(config)
    return Container(
        id=container_id,
        name=name,
        created_at=time.time_ns(),
        path=path,
        args=arguments,
        config=config,
        host_config=host,
        image_id=image.id if image else "",
        image_reference=config.image,
        chain_id=image.chain_id if image else "",
        driver=services.layers.driver_name,
        endpoints=endpoints,
        log_path=_log_path(services, container_id, host),
        app_armor_profile=options.apparmor,
    )


def _log_path(services: Services, container_id: str, host: HostConfig) -> str:
    """Docker's path, where other programs look for it; other drivers keep theirs to themselves."""
    if host.log_config is None or host.log_config.type_ != "json-file":
        return ""
    return str(services.container_dir(container_id) / f"{container_id}-json.log")


async def _acquire(services: Services, entry: Entry, undo: Undo, *, old_read_only: bool) -> None:
    """Layer, directory, mounts and working directory."""
    definition = entry.definition
    config, host = definition.config, definition.host_config
    storage_options = {} if host.storage_opt is UNSET else host.storage_opt
    try:
        await services.layers.create(entry.id, definition.chain_id, storage_options)
    except InvalidParameter as error:
        raise SystemError_(str(error)) from error  # what Docker's drivers refuse is its own error
    undo.push(lambda: services.layers.remove(entry.id))
    directory = services.container_dir(entry.id)
    directory.mkdir(mode=0o700, parents=True)
    undo.push(lambda: _remove_directory(directory))
    log_path(services, entry).parent.mkdir(mode=0o700, exist_ok=True)
    wanted = (
        await asyncio.to_thread(collect, services.registry, host, old_read_only=old_read_only)
        if _has_mounts(host)
        else []
    )
    host.links = resolve_links(services.registry, host)
    if config.working_dir not in ("", "/"):
        await services.layers.make_directory(entry.id, config.working_dir)
    image_mounts.hold(services, [item.mount for item in wanted], undo)
    definition.mounts = await create_volumes(services, entry.id, wanted, config, host, undo)
    await fill_volumes(services, entry.id, definition.mounts, wanted)


def _has_mounts(host: HostConfig) -> bool:
    return bool(host.binds or host.volumes_from or (host.mounts is not UNSET and host.mounts))


async def _release_name(services: Services, name: str, container_id: str) -> None:
    services.registry.release_name(name, container_id)


async def _remove_directory(directory: Path) -> None:
    await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)
