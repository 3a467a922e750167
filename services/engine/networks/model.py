"""Documents of the network database, and the daemon's network settings."""

from __future__ import annotations

import hashlib

import msgspec

from services.engine.networks.ipam import DEFAULT_POOLS, PoolRecord
from services.engine.networks.ports import PortRequest, PublishedPort
from services.engine.store import Schema
from services.protocol.api.networks import EndpointSettings
from services.protocol.settings import AddressPool

BRIDGE, HOST, NONE = "bridge", "host", "none"
PREDEFINED = (BRIDGE, HOST, NONE)

SCHEMA = Schema(
    "networks",
    (
        "CREATE TABLE networks (id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, document BLOB NOT NULL);"
        "CREATE TABLE sandboxes (container_id TEXT PRIMARY KEY, document BLOB NOT NULL)",
    ),
)


class NetworkSettings(msgspec.Struct, frozen=True, kw_only=True):
    """dockerd's options on networks. ``bridge`` "none" makes no default bridge.

    ``instance`` tells daemons on one host apart (nf_tables table); empty: by the bridge's name, and
    without a bridge by the exec root, which ``zygote`` lies in.
    ``zygote`` is where ``docker-proxy`` is forked; without it, or without ``userland_proxy``, ports are
    published on IPv4 addresses only.
    """

    bridge: str = "docker0"
    bip: str = ""
    fixed_cidr: str = ""
    default_gateway: str = ""
    mtu: int = 1500
    icc: bool = True
    ip_masq: bool = True
    default_binding: str = "0.0.0.0"
    firewall: bool = True
    ip_forward: bool = True
    address_pools: tuple[AddressPool, ...] = DEFAULT_POOLS
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    host_gateway_ips: tuple[str, ...] = ()
    instance: str = ""
    zygote: str = ""
    userland_proxy: bool = True
    resolv_conf: str = "/etc/resolv.conf"

    @property
    def table(self) -> str:
        """Name of the daemon's nf_tables table."""
        if self.instance or self.bridge != NONE:
            return f"wharfd-{self.instance or self.bridge}"
        return "wharfd-" + hashlib.sha256(self.zygote.encode()).hexdigest()[:12]


class NetworkRecord(msgspec.Struct, kw_only=True):
    """A network. ``interface`` is its bridge's name; ``owned`` if the daemon made it."""

    id: str
    name: str
    driver: str
    created: str
    #: Whatever the request said: only "swarm" and "global" mean anything to libnetwork.
    scope: str = "local"
    pools: list[PoolRecord] = []
    internal: bool = False
    attachable: bool = False
    enable_ipv4: bool = True
    enable_ipv6: bool = False
    config_only: bool = False
    config_from: str = ""
    options: dict[str, str] = {}
    labels: dict[str, str] = {}
    ipam_driver: str = "default"
    ipam_options: dict[str, str] | None = None
    interface: str = ""
    owned: bool = True
    #: Of the request that made it: a repeated one is answered with the network it has made.
    request_id: str = ""


class EndpointRecord(msgspec.Struct, kw_only=True):
    """A container's end of a network; addresses are empty where the driver gives none."""

    id: str
    network_id: str
    network_name: str
    interface: str = ""
    host_interface: str = ""
    mac_address: str = ""
    ipv4: str = ""
    settings: EndpointSettings


class Resolver(msgspec.Struct, kw_only=True):
    """What the embedded DNS server of a sandbox forwards to."""

    servers: list[str] = []


class PlainResolvConf(msgspec.Struct, kw_only=True):
    """What resolv.conf of a sandbox without the embedded DNS server was made from, and its ``digest``."""

    servers: list[str] = []
    search: list[str] = []
    options: list[str] = []
    digest: str


class SandboxRecord(msgspec.Struct, kw_only=True):
    """All of a running container's network; written before anything of it is made."""

    id: str
    container_id: str
    container_name: str
    hostname: str
    endpoints: list[EndpointRecord] = []
    domainname: str = ""
    exposed: list[str] = []
    requested: list[PortRequest] = []
    #: Held while there is a network they can lead to (``gateway_network``).
    ports: list[PublishedPort] = []
    #: The network whose endpoint the ports lead to, and the default route goes through.
    gateway_network: str = ""
    resolver: Resolver | None = None
    #: For when it joins a network that has the embedded DNS server.
    plain: PlainResolvConf | None = None

    def endpoint(self, network_id: str) -> EndpointRecord | None:
        return next((one for one in self.endpoints if one.network_id == network_id), None)
