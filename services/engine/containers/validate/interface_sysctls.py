"""Kernel parameters of one interface, which a container's request cannot set (moby ``handleSysctlBC``)."""

from __future__ import annotations

import re

from msgspec import UNSET

from services.engine.containers import modes
from services.engine.containers.validate.legacy import NO_SUCH_ENDPOINT, Endpoints, Version
from services.engine.containers.values import go_quote
from services.protocol.api.containers import HostConfig
from services.protocol.api.networks import EndpointSettings
from services.protocol.errors import SystemError_

#: Where an endpoint's own are given.
_OPTION = "com.docker.network.endpoint.sysctls"
#: ``net.ipv4.conf.eth0.forwarding``: a kernel parameter of one interface.
_INTERFACE_SYSCTL = re.compile(r"net\.[^.]*\.[^.]*\.eth[^.]*\..*", re.DOTALL)


def adapt_sysctls(host: HostConfig, endpoints: Endpoints, version: Version) -> list[str]:
    """Parameters of ``eth0`` are its endpoint's since 1.46; returns the warning that they were moved.

    They are set before there are interfaces. Raises ``SystemError_`` since 1.48, which moves nothing.
    """
    if not modes.has_own_network(host.network_mode) or host.sysctls is UNSET:
        return []
    named = [name for name in host.sysctls if _INTERFACE_SYSCTL.fullmatch(name)]
    for name in named:
        if version > (1, 47):
            raise SystemError_(
                f"interface specific sysctl setting {go_quote(name)} must be supplied using driver option "
                f"'{_OPTION}'"
            )
        if name.split(".")[3] != "eth0":
            raise SystemError_(
                f"unable to determine network endpoint for sysctl {name}, use driver option "
                f"'{_OPTION}' to set per-interface sysctls"
            )
    return [_move_sysctls(host, host.sysctls, endpoints, named)] if named else []


def _move_sysctls(host: HostConfig, sysctls: dict[str, str], endpoints: Endpoints, named: list[str]) -> str:
    network = modes.network_name(host.network_mode)
    if not endpoints:
        endpoints[network] = EndpointSettings()
    if network not in endpoints:
        raise SystemError_(f"unable to find a network for sysctl {named[0]}: {NO_SUCH_ENDPOINT}")
    moved = []
    for name in named:
        net, family, kind, _, rest = name.split(".", 4)
        moved.append(f"{net}.{family}.{kind}.IFNAME.{rest}={sysctls.pop(name)}")
    options = endpoints[network].driver_opts or {}
    given = [options[_OPTION]] if _OPTION in options else []
    endpoints[network].driver_opts = {**options, _OPTION: ",".join([*moved, *given])}
    return (
        f"Migrated sysctl {go_quote(','.join(named))} to "
        f"DriverOpts{{{go_quote(_OPTION)}:{go_quote(','.join(moved))}}}."
    )
