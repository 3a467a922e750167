"""Network documents (``/networks``) and the endpoint settings of a container."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, UnsetType

from services.protocol.api.base import Model


class EndpointIPAMConfig(Model, kw_only=True):
    ipv4_address: str | UnsetType = UNSET
    ipv6_address: str | UnsetType = UNSET
    link_local_ips: list[str] | UnsetType = UNSET


class EndpointSettings(Model, kw_only=True):
    """A container's end of a network: the request (upper half) and what came of it."""

    ipam_config: EndpointIPAMConfig | None = None
    links: list[str] | None = None
    aliases: list[str] | None = None
    driver_opts: dict[str, str] | None = None
    gw_priority: int = 0
    network_id: str = ""
    endpoint_id: str = ""
    gateway: str = ""
    ip_address: str = ""
    mac_address: str = ""
    ip_prefix_len: int = 0
    ipv6_gateway: str = ""
    global_ipv6_address: str = ""
    global_ipv6_prefix_len: int = 0
    dns_names: list[str] | None = None


class IPAMConfig(Model, kw_only=True):
    subnet: str | UnsetType = UNSET
    ip_range: str | UnsetType = UNSET
    gateway: str | UnsetType = UNSET
    auxiliary_addresses: dict[str, str] | UnsetType = UNSET


class IPAM(Model, kw_only=True):
    driver: str = "default"
    options: dict[str, str] | None = None
    config: list[IPAMConfig] | None = None


class ConfigReference(Model, kw_only=True):
    network: str = ""


class NetworkCreateRequest(Model, kw_only=True):
    name: str = ""
    driver: str = ""
    scope: str = ""
    enable_ipv4: bool | None = None
    enable_ipv6: bool | None = None
    ipam: IPAM | None = None
    internal: bool = False
    attachable: bool = False
    ingress: bool = False
    config_only: bool = False
    config_from: ConfigReference | None = None
    options: dict[str, str] | None = None
    labels: dict[str, str] | None = None
    check_duplicate: bool | None = None


class NetworkCreateReply(Model, kw_only=True):
    id: str
    warning: str = ""


class NetworkContainer(Model, kw_only=True):
    name: str
    endpoint_id: str
    mac_address: str
    ipv4_address: str
    ipv6_address: str


class SubnetStatus(Model, kw_only=True):
    """Addresses that are taken or never given out, and those left in the range."""

    ips_in_use: int
    dynamic_ips_available: int


class IPAMStatus(Model, kw_only=True):
    subnets: dict[str, SubnetStatus] | UnsetType = UNSET


class NetworkStatus(Model, kw_only=True):
    ipam: IPAMStatus


class NetworkInspect(Model, kw_only=True):
    name: str
    id: str
    created: str
    scope: str
    driver: str
    enable_ipv4: bool = True
    enable_ipv6: bool = False
    ipam: IPAM
    internal: bool = False
    attachable: bool = False
    ingress: bool = False
    config_from: ConfigReference
    config_only: bool = False
    containers: dict[str, NetworkContainer] | UnsetType = UNSET
    options: dict[str, str] | None = None
    labels: dict[str, str] | None = None
    peers: list[Any] | UnsetType = UNSET
    status: NetworkStatus | UnsetType = UNSET


class ConnectRequest(Model, kw_only=True):
    container: str = ""
    endpoint_config: EndpointSettings | None = None


class DisconnectRequest(Model, kw_only=True):
    container: str = ""
    force: bool = False


class NetworkPruneReply(Model, kw_only=True):
    networks_deleted: list[str] | None = None
