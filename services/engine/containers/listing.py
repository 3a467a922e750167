"""``docker ps``: containers by age, filtered, each as one row."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from services.engine.containers.filters import Test, compile_list
from services.engine.containers.links import link_names
from services.engine.containers.model import Entry
from services.engine.containers.services import Services
from services.engine.containers.show import command, mount_points, networks
from services.engine.containers.status_text import status_text
from services.engine.containers.transitions import ACTIVE
from services.engine.contracts import ImageService
from services.protocol.api.containers import (
    Port,
    PortBinding,
    Summary,
    SummaryHealth,
    SummaryHostConfig,
    SummaryNetworks,
)
from services.protocol.api.networks import EndpointIPAMConfig, EndpointSettings
from services.protocol.errors import WharfError
from services.protocol.verbs.containers import ListArgs

#: Filters that make stopped containers count without ``all``.
_SHOW_STOPPED = ("status",)


async def list_containers(services: Services, args: ListArgs) -> list[Summary]:
    """Newest first. Raises ``InvalidParameter`` and ``NotFound`` for filters."""
    names = link_names(services.registry)
    tests = compile_list(services.registry, services.images, names, args.filters)
    entries = _select(services, args, tests)
    images = _ImageNames(services.images)
    now = time.time_ns()
    rows = [_row(entry, images, names.get(entry.id, ()), now) for entry in entries]
    if args.size:
        await asyncio.gather(*(_fill_size(services, row) for row in rows))
    return rows


def _select(services: Services, args: ListArgs, tests: Sequence[Test]) -> list[Entry]:
    stopped_too = args.all or args.limit > 0 or any(args.filters.get(name) for name in _SHOW_STOPPED)
    found = [
        entry
        for entry in services.registry
        if (stopped_too or entry.state.status in ACTIVE) and all(test(entry) for test in tests)
    ]
    found.sort(key=lambda entry: entry.definition.created_at, reverse=True)
    return found[: args.limit] if args.limit > 0 else found


class _ImageNames:
    """What the user called an image, while it still means that image; one lookup per name."""

    def __init__(self, images: ImageService) -> None:
        self._images = images
        self._ids: dict[str, str] = {}

    def shown(self, entry: Entry) -> str:
        reference, image_id = entry.definition.image_reference, entry.definition.image_id
        if not reference or reference == image_id:
            return image_id
        if reference not in self._ids:
            try:
                self._ids[reference] = self._images.resolve(reference).id
            except WharfError:
                self._ids[reference] = ""
        return reference if self._ids[reference] == image_id else image_id


def _row(entry: Entry, images: _ImageNames, more_names: Sequence[str], now: int) -> Summary:
    definition, state = entry.definition, entry.state
    health = SummaryHealth()
    if state.health is not None:
        health = SummaryHealth(status=state.health.status, failing_streak=state.health.failing_streak)
    return Summary(
        id=definition.id,
        names=sorted(["/" + definition.name, *more_names]),
        image=images.shown(entry),
        image_id=definition.image_id,
        command=command(entry),
        created=definition.created_at // 1_000_000_000,
        ports=ports(state.ports),
        labels=definition.config.labels or {},
        state=state.status.value,
        status=status_text(state, now),
        host_config=SummaryHostConfig(
            network_mode=definition.host_config.network_mode, annotations=definition.host_config.annotations
        ),
        network_settings=SummaryNetworks(
            networks={name: _endpoint(settings) for name, settings in networks(entry).items()}
        ),
        mounts=mount_points(entry),
        health=health,
    )


def _endpoint(settings: EndpointSettings) -> EndpointSettings:
    """Its addresses only: a list shows neither names, links, driver options nor link-local addresses."""
    ipam = settings.ipam_config
    if ipam is not None:
        ipam = EndpointIPAMConfig(ipv4_address=ipam.ipv4_address, ipv6_address=ipam.ipv6_address)
    return replace(settings, ipam_config=ipam, links=None, aliases=None, driver_opts=None, dns_names=None)


def ports(bindings: Mapping[str, Sequence[PortBinding] | None]) -> list[Port]:
    """One row per published address, and one per port that is exposed only."""
    rows = []
    for port, published in bindings.items():
        number, _, protocol = port.partition("/")
        if not published:
            rows.append(Port(ip="", private_port=int(number), type_=protocol))
        for binding in published or ():
            rows.append(
                Port(
                    ip=binding.host_ip,
                    private_port=int(number),
                    public_port=int(binding.host_port),
                    type_=protocol,
                )
            )
    rows.sort(key=lambda row: (row.private_port, row.type_, str(row.ip)))
    return rows


async def _fill_size(services: Services, row: Summary) -> None:
    """Sizes of zero are left out, as Docker does; so is one whose layer is being removed."""
    try:
        own, whole = await services.layers.sizes(row.id)
    except WharfError:
        return
    if own:
        row.size_rw = own
    if whole:
        row.size_root_fs = whole
