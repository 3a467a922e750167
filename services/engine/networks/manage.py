"""Creating and removing user-defined networks."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
from collections.abc import Mapping, Sequence

from services.engine.events import Events
from services.engine.networks import listing, requests, subnets
from services.engine.networks.drivers import absent
from services.engine.networks.drivers.base import Driver
from services.engine.networks.kernel import Kernel
from services.engine.networks.model import PREDEFINED, NetworkRecord
from services.engine.networks.records import Records
from services.engine.networks.registry import Registry, new_id
from services.engine.networks.sandboxes import Sandboxes
from services.engine.scopes import Undo, checkpoint, settled
from services.protocol.api.networks import NetworkCreateRequest
from services.protocol.errors import Forbidden, WharfError


class Manager:
    """One change of the set of networks at a time, so that subnets and names cannot be given twice."""

    def __init__(
        self, records: Records, registry: Registry, kernel: Kernel, sandboxes: Sandboxes, events: Events
    ) -> None:
        self._records = records
        self._registry = registry
        self._kernel = kernel
        self._sandboxes = sandboxes
        self._events = events
        self._changing = asyncio.Lock()

    async def create(self, request: NetworkCreateRequest, request_id: str = "") -> NetworkRecord:
        async with self._changing, Undo() as undo:
            source = requests.check_request(request, self._registry)
            if request.config_only:
                driver: Driver = self._registry.drivers["null"]
                record = requests.make_configuration(request, driver)
            else:
                if request.driver in requests.ABSENT_DRIVERS:
                    options = request.options or {}
                    refuse = (absent.refusal, request.driver, new_id(), options, self._kernel.links)
                    raise await self._kernel.run(*refuse)
                driver = requests.choose_driver(request.driver, self._registry.drivers)
                if source is not None:
                    request = requests.configured(request, source)
                record = requests.make_record(request, driver)
                gateway = driver.needs_gateway(record.options, internal=record.internal)
                record.pools = [await subnets.choose_pool(request, self._registry, record, gateway=gateway)]
            record.request_id = request_id
            record.owned = await self._is_new(record)
            undo.push(lambda: self._records.delete_network(record.id))
            await self._records.put_network(record)
            undo.push(lambda: self._kernel.run(driver.remove, record))
            await self._kernel.run(driver.create, record)
            checkpoint()
            undo.keep()
            self._registry.add(record)
        self._events.publish("network", "create", record.id, _attributes(record))
        return record

    async def _is_new(self, record: NetworkRecord) -> bool:
        """Whether the bridge will be ours; one that is there already is the administrator's."""
        for other in self._registry.all():
            if other.interface and other.interface == record.interface:
                raise Forbidden(
                    f"cannot create network {record.id} ({record.interface}): conflicts with network "
                    f"{other.id} ({other.interface}): networks have same bridge name"
                )
        links = await self._kernel.run(self._kernel.links.links)
        return all(link.name != record.interface for link in links)

    async def remove(self, ref: str) -> None:
        async with self._changing:
            record = self._registry.find(ref)
            await self._remove(record)

    async def _remove(self, record: NetworkRecord) -> None:
        if record.name in PREDEFINED:
            raise Forbidden(f"{record.name} is a pre-defined network and cannot be removed")
        if any(one.config_from == record.name for one in self._registry.all() if record.config_only):
            text = f'configuration network "{record.name}" is in use'
            raise Forbidden(f"error while removing network: {text}")
        if users := self._sandboxes.users(record.id):
            listed = ", ".join(
                f'name:"{sandbox.container_name}" id:"{endpoint.id[:12]}"' for sandbox, endpoint in users
            )
            raise Forbidden(
                f"error while removing network: network {record.name} has active endpoints ({listed})"
            )
        # From here on nobody can join it. A crash before the row is gone brings the network back.
        self._registry.discard(record)
        await settled(self._take_down(record))

    async def _take_down(self, record: NetworkRecord) -> None:
        driver = self._registry.driver(record)
        try:
            await self._kernel.run(driver.remove, record)
            await self._records.delete_network(record.id)
        except BaseException:
            self._registry.add(record)
            with contextlib.suppress(WharfError, OSError):  # what went before the failure comes back
                await self._kernel.run(driver.create, record)
            raise
        self._events.publish("network", "destroy", record.id, _attributes(record))

    async def prune(self, filters: Mapping[str, Sequence[str]]) -> list[str]:
        """Names of the networks removed."""
        removed = []
        now = datetime.datetime.now(datetime.UTC)
        async with self._changing:
            for record in listing.prunable(self._registry.all(), filters, self.in_use, now):
                try:
                    await self._remove(record)
                except WharfError:
                    continue  # joined in the meantime, or the kernel keeps it: not pruned
                removed.append(record.name)
        self._events.publish("network", "prune", "", {"reclaimed": "0"})
        return removed

    def in_use(self, record: NetworkRecord) -> bool:
        return bool(self._sandboxes.users(record.id))


def _attributes(record: NetworkRecord) -> dict[str, str]:
    return {"name": record.name, "type": record.driver}
