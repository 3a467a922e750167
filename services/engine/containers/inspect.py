"""``docker inspect`` of a container."""

from __future__ import annotations

import msgspec

from services.engine.containers.links import shown_links
from services.engine.containers.model import ContainerState, Entry, Status
from services.engine.containers.modes import joined_container
from services.engine.containers.mounts import ETC_FILES
from services.engine.containers.services import Services
from services.engine.containers.show import mount_points, networks
from services.engine.containers.times import rfc3339
from services.engine.containers.transitions import ACTIVE
from services.protocol.api import containers as api
from services.protocol.errors import WharfError
from services.protocol.verbs.containers import InspectArgs


async def inspect(services: Services, args: InspectArgs) -> api.Inspect:
    """Raises ``NotFound`` and ``InvalidParameter``."""
    entry = services.registry.get(args.ref)
    document = _document(services, entry)
    if args.size:
        document.size_rw, document.size_root_fs = await services.layers.sizes(entry.id)
    return document


def _document(services: Services, entry: Entry) -> api.Inspect:
    definition = entry.definition
    files = _etc_paths(services, entry)
    return api.Inspect(
        id=definition.id,
        created=rfc3339(definition.created_at),
        path=definition.path,
        args=definition.args,
        state=state_document(entry.state),
        image=definition.image_id,
        resolv_conf_path=files.get("resolv.conf", ""),
        hostname_path=files.get("hostname", ""),
        hosts_path=files.get("hosts", ""),
        log_path=definition.log_path if entry.state.has_been_started else "",
        name="/" + definition.name,
        restart_count=entry.state.restart_count,
        driver=definition.driver,
        platform=definition.os,
        mount_label=definition.mount_label,
        process_label=definition.process_label,
        app_armor_profile=definition.app_armor_profile,
        exec_ids=list(entry.runtime.execs) or None,
        host_config=_host_config(services, entry),
        graph_driver=services.layers.graph_driver(definition.id),
        mounts=mount_points(entry),
        config=_config(entry),
        network_settings=_network_settings(entry),
    )


def state_document(state: ContainerState) -> api.State:
    document = api.State(
        status=state.status.value,
        running=state.status in ACTIVE,
        paused=state.status is Status.PAUSED,
        restarting=state.status is Status.RESTARTING,
        oom_killed=state.oom_killed,
        dead=state.status is Status.DEAD,
        pid=state.pid,
        exit_code=state.exit_code,
        error=state.error,
        started_at=rfc3339(state.started_at),
        finished_at=rfc3339(state.finished_at),
    )
    if state.health is not None:
        document.health = api.Health(
            status=state.health.status, failing_streak=state.health.failing_streak, log=state.health.log
        )
    return document


def _etc_paths(services: Services, entry: Entry) -> dict[str, str]:
    """The files of its network's owner; none before the first start."""
    if not entry.state.has_been_started and not entry.state.error:
        return {}
    owner = entry.id
    if ref := joined_container(entry.definition.host_config.network_mode):
        try:
            owner = services.registry.get(ref).id
        except WharfError:
            return {}
    directory = services.container_dir(owner)
    return {name: str(directory / name) for name in ETC_FILES}


def _config(entry: Entry) -> api.Config:
    """With the hardware address that was asked for, which clients before 1.52 look for here."""
    mode = entry.definition.host_config.network_mode
    if mode in ("host", "none") or joined_container(mode) or mode not in entry.definition.endpoints:
        return entry.definition.config
    address = entry.definition.endpoints[mode].mac_address
    return msgspec.structs.replace(entry.definition.config, mac_address=address or msgspec.UNSET)


def _host_config(services: Services, entry: Entry) -> api.HostConfig:
    """Legacy links under the names that the containers have now; those of a user-defined network
    are its endpoint's."""
    host = entry.definition.host_config
    if not host.links:
        return host
    links = shown_links(services.registry, entry)
    return msgspec.structs.replace(host, links=links)


def _network_settings(entry: Entry) -> api.NetworkSettings:
    state = entry.state
    return api.NetworkSettings(
        sandbox_id=state.sandbox_id,
        sandbox_key=state.sandbox_key,
        ports=state.ports,
        networks=networks(entry),
    )
