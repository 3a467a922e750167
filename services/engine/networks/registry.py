"""The networks there are: found by name, id or id prefix; their addresses; the default ones."""

from __future__ import annotations

import datetime
import ipaddress
import logging
import secrets

from services.engine.networks.drivers import bridge as bridge_options
from services.engine.networks.drivers.base import Driver
from services.engine.networks.ipam import (
    GLOBAL_POOLS,
    Network,
    NetworkAddresses,
    PoolRecord,
    choose_subnet,
    overlaps,
)
from services.engine.networks.kernel import Kernel
from services.engine.networks.model import (
    BRIDGE,
    HOST,
    NONE,
    NetworkRecord,
    NetworkSettings,
)
from services.engine.networks.records import Records
from services.protocol.errors import InvalidParameter, NotFound

log = logging.getLogger(__name__)


def new_id() -> str:
    return secrets.token_hex(32)


def timestamp() -> str:
    """Now, as the API writes times: RFC 3339 in UTC with nanoseconds."""
    now = datetime.datetime.now(datetime.UTC)
    return now.strftime("%Y-%m-%dT%H:%M:%S.") + f"{now.microsecond * 1000:09d}Z"


class Registry:
    """In memory, written through to the database; used on the event loop."""

    def __init__(
        self, records: Records, kernel: Kernel, drivers: dict[str, Driver], settings: NetworkSettings
    ) -> None:
        self._records = records
        self._kernel = kernel
        self._settings = settings
        self.drivers = drivers
        self._by_id: dict[str, NetworkRecord] = {}
        self._by_name: dict[str, NetworkRecord] = {}
        self._addresses: dict[str, NetworkAddresses] = {}
        for record in records.networks():
            self.add(record)

    def all(self) -> list[NetworkRecord]:
        return list(self._by_id.values())

    def add(self, record: NetworkRecord) -> None:
        self._by_id[record.id] = record
        self._by_name[record.name] = record
        self._addresses[record.id] = NetworkAddresses(f"{record.name} ({record.id})", record.pools)

    def discard(self, record: NetworkRecord) -> None:
        self._by_id.pop(record.id, None)
        if self._by_name.get(record.name) is record:
            del self._by_name[record.name]
        self._addresses.pop(record.id, None)

    def get(self, network_id: str) -> NetworkRecord | None:
        return self._by_id.get(network_id)

    def by_name(self, name: str) -> NetworkRecord | None:
        return self._by_name.get(name)

    def addresses(self, record: NetworkRecord) -> NetworkAddresses:
        return self._addresses[record.id]

    def driver(self, record: NetworkRecord) -> Driver:
        return self.drivers[record.driver]

    def find(self, ref: str) -> NetworkRecord:
        """By id, name or unambiguous id prefix; "default" is the default bridge."""
        if not ref:
            raise InvalidParameter('invalid name or ID supplied: ""')
        record = self._by_id.get(ref) or self._by_name.get(BRIDGE if ref == "default" else ref)
        if record is not None:
            return record
        matches = [one for id_, one in self._by_id.items() if id_.startswith(ref)]
        if len(matches) > 1:
            raise InvalidParameter(
                f"network {ref} is ambiguous ({len(matches)} matches found based on ID prefix)"
            )
        if not matches:
            raise NotFound(f"network {ref} not found")
        return matches[0]

    def used_subnets(self) -> list[Network]:
        """Subnets of all networks."""
        allocated = [record for record in self._by_id.values() if not record.config_only]
        return [subnet for record in allocated for subnet in _subnets(record)]

    async def free_subnet(self, version: int, scope: str = "", prefix: int = 0) -> Network:
        """From the default pools, clear of networks and of the host's routes and addresses.

        The *scope* "global" has pools of its own, and does not look at the host's.
        """
        if scope == "global":
            return choose_subnet(GLOBAL_POOLS, version, self.used_subnets(), prefix)
        links = self._kernel.links
        routes = await self._kernel.run(links.destinations)
        addresses = await self._kernel.run(links.addresses)
        used = self.used_subnets() + routes + [address.network for _, address in addresses]
        return choose_subnet(self._settings.address_pools, version, used, prefix)

    async def ensure_predefined(self) -> None:
        """The three networks that are always there; the bridge's settings are those of today."""
        for name, driver in ((NONE, "null"), (HOST, "host")):
            if name not in self._by_name:
                record = NetworkRecord(id=new_id(), name=name, driver=driver, created=timestamp())
                await self._records.put_network(record)
                self.add(record)
        old = self._by_name.get(BRIDGE)
        if self._settings.bridge == NONE:
            if old is not None:
                await self._records.delete_network(old.id)
                self.discard(old)
            return
        await self._ensure_default_bridge(old)

    async def _ensure_default_bridge(self, old: NetworkRecord | None) -> None:
        settings = self._settings
        links = await self._kernel.run(self._kernel.links.links)
        there = next((link for link in links if link.name == settings.bridge), None)
        pool = await self._default_pool(old, there.index if there else 0)
        record = NetworkRecord(
            id=old.id if old else new_id(),
            name=BRIDGE,
            driver="bridge",
            created=old.created if old else timestamp(),
            pools=[pool],
            interface=settings.bridge,
            # A bridge that somebody has made before us, or since we have removed ours, is not ours.
            owned=there is None or (old is not None and old.interface == settings.bridge and old.owned),
            options={
                bridge_options.DEFAULT_BRIDGE: "true",
                bridge_options.ICC: str(settings.icc).lower(),
                bridge_options.MASQUERADE: str(settings.ip_masq).lower(),
                bridge_options.HOST_BINDING: settings.default_binding,
                bridge_options.NAME: settings.bridge,
                bridge_options.MTU: str(settings.mtu),
            },
        )
        if record != old:
            await self._records.put_network(record)
        if old is not None:
            self.discard(old)
        self.add(record)

    async def disown(self) -> None:
        """The default bridge has been removed: a bridge of its name at the next start is another's."""
        if (record := self._by_name.get(BRIDGE)) is not None and record.owned:
            record.owned = False
            await self._records.put_network(record)

    async def _default_pool(self, old: NetworkRecord | None, index: int) -> PoolRecord:
        """By ``--bip``, else what the bridge has, else what it had, else a free subnet."""
        settings = self._settings
        gateway: ipaddress.IPv4Interface | None = None
        if settings.bip:
            gateway = ipaddress.IPv4Interface(settings.bip)
        elif index:
            for owner, address in await self._kernel.run(self._kernel.links.addresses):
                if owner == index and isinstance(address, ipaddress.IPv4Interface):
                    gateway = address
                    break
        if gateway is None and settings.fixed_cidr and not old:
            fixed = ipaddress.IPv4Network(settings.fixed_cidr)
            gateway = ipaddress.IPv4Interface((int(fixed.network_address) + 1, fixed.prefixlen))
        if gateway is None and old is not None and old.pools:
            pool = old.pools[0]
            prefix = pool.subnet.partition("/")[2]
            gateway = ipaddress.IPv4Interface(f"{pool.gateway}/{prefix}")
        if gateway is None:
            subnet = await self.free_subnet(4)
            gateway = ipaddress.IPv4Interface((int(subnet.network_address) + 1, subnet.prefixlen))
        pool = PoolRecord(subnet=str(gateway.network), gateway=str(gateway.ip), configured=False)
        if settings.fixed_cidr:
            pool.ip_range = settings.fixed_cidr
        if settings.default_gateway:
            pool.auxiliary = {"DefaultGatewayIPv4": settings.default_gateway}
        return pool

    def overlapping(self, subnet: Network) -> NetworkRecord | None:
        """A network that has addresses of *subnet*."""
        allocated = (record for record in self._by_id.values() if not record.config_only)
        return next((record for record in allocated if overlaps(subnet, _subnets(record))), None)


def _subnets(record: NetworkRecord) -> list[Network]:
    return [ipaddress.ip_network(pool.subnet, strict=False) for pool in record.pools]
