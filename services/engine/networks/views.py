"""What a sandbox looks like to its container: endpoint settings, names, files. No side effects."""

from __future__ import annotations

from pathlib import Path

import msgspec

from services.engine.contracts import EtcFiles, SandboxRequest
from services.engine.networks import etcfiles, hostsfile
from services.engine.networks.model import (
    BRIDGE,
    HOST,
    PREDEFINED,
    EndpointRecord,
    NetworkSettings,
    PlainResolvConf,
    Resolver,
    SandboxRecord,
)
from services.engine.networks.registry import Registry
from services.protocol.api.networks import EndpointSettings


def dns_names(record: SandboxRecord, settings: EndpointSettings) -> list[str]:
    return names_of(record.container_name, record.container_id, record.hostname, settings)


def names_of(name: str, container_id: str, hostname: str, settings: EndpointSettings) -> list[str]:
    """Names of a container in a user-defined network: its name, aliases, short id, host name."""
    names = [name, *(settings.aliases or []), container_id[:12], hostname]
    return list(dict.fromkeys(one for one in names if one))


def endpoint_settings(
    record: SandboxRecord, endpoint: EndpointRecord, registry: Registry
) -> EndpointSettings:
    """The request's half as it was, the other half from the endpoint."""
    given = endpoint.settings
    filled = EndpointSettings(
        ipam_config=given.ipam_config,
        links=given.links,
        aliases=given.aliases,
        driver_opts=given.driver_opts,
        gw_priority=given.gw_priority,
        network_id=endpoint.network_id,
        endpoint_id=endpoint.id,
        mac_address=endpoint.mac_address,
        ip_address=endpoint.ipv4,
    )
    network = registry.get(endpoint.network_id)
    if network is None or not endpoint.ipv4:
        return filled
    addresses = registry.addresses(network)
    filled.ip_prefix_len = addresses.prefix(endpoint.ipv4)
    filled.gateway = "" if network.internal else addresses.gateway(endpoint.ipv4)
    if network.name not in PREDEFINED:
        filled.dns_names = dns_names(record, given)
    return filled


def requested(record: SandboxRecord, endpoint: EndpointRecord) -> EndpointSettings:
    """The request's half, and what a stopped container still shows of the other."""
    names = [] if endpoint.network_name in PREDEFINED else dns_names(record, endpoint.settings)
    return msgspec.structs.replace(endpoint.settings, network_id=endpoint.network_id, dns_names=names or None)


def host_gateways(registry: Registry, settings: NetworkSettings) -> list[str]:
    """What ``host-gateway`` stands for: as configured, else the default bridge's gateway."""
    if settings.host_gateway_ips:
        return list(settings.host_gateway_ips)
    bridge = registry.by_name(BRIDGE)
    return [pool.gateway for pool in bridge.pools if pool.gateway] if bridge else []


def etc_files(
    request: SandboxRequest, record: SandboxRecord, registry: Registry, settings: NetworkSettings
) -> EtcFiles:
    """Also decides whether the sandbox has the embedded DNS server (``record.resolver``), or what for if it
    gets one (``record.plain``).
    """
    host_mode = any(endpoint.network_name == HOST for endpoint in record.endpoints)
    extra = etcfiles.split_extra_hosts(request.extra_hosts, host_gateways(registry, settings))
    own = "".join(
        etcfiles.host_line(endpoint.ipv4, request.hostname, request.domainname)
        for endpoint in record.endpoints
        if endpoint.ipv4
    )
    hosts = etcfiles.hosts(extra, own)
    if host_mode:
        hosts = _read("/etc/hosts") + "".join(f"{address}\t{names}\n" for address, names in extra)
    servers = request.dns or list(settings.dns)
    search = request.dns_search or list(settings.dns_search)
    options = request.dns_options or list(settings.dns_options)
    path = settings.resolv_conf
    host = _read(path)
    if any(endpoint.network_name not in PREDEFINED for endpoint in record.endpoints):
        conf, upstream = etcfiles.embedded_resolv_conf(host, servers, search, options, path=path)
        record.resolver = Resolver(servers=upstream)
    else:
        conf = etcfiles.plain_resolv_conf(host, servers, search, options, path=path, filtered=not host_mode)
        if not host_mode:
            record.plain = PlainResolvConf(
                servers=servers, search=search, options=options, digest=hostsfile.digest(conf.encode())
            )
    return EtcFiles(hosts=hosts, resolv_conf=conf)


def embedded(record: SandboxRecord, plain: PlainResolvConf, settings: NetworkSettings) -> str:
    """resolv.conf of a sandbox that joins its first network with the embedded DNS server, which it gets."""
    path = settings.resolv_conf
    conf, upstream = etcfiles.embedded_resolv_conf(
        _read(path), plain.servers, plain.search, plain.options, path=path
    )
    record.resolver = Resolver(servers=upstream)
    return conf


def _read(path: str) -> str:
    """A small file of the host; a missing one is empty."""
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""
