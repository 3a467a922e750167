"""Drivers that are not implemented: refused as dockerd would refuse the request, or by name."""

from __future__ import annotations

import errno
from collections.abc import Mapping

from services.engine.networks.links import Links
from services.engine.networks.netlink import NetlinkError
from services.protocol.errors import Forbidden, SystemError_, Unimplemented, WharfError

_MODES = {
    "macvlan": ("macvlan_mode", ("bridge", "private", "passthru", "vepa"), "bridge"),
    "ipvlan": ("ipvlan_mode", ("l2", "l3", "l3s"), "l2"),
}
_NO_SWARM = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node '
    "to swarm and try again."
)
_PARENT = "parent"
_LOOPBACK = "lo"


def refusal(driver: str, network_id: str, options: Mapping[str, str], links: Links) -> WharfError:
    """Blocks on the kernel: with no parent to be on, the network needs a dummy link."""
    unimplemented = Unimplemented(f"network driver {driver} is not implemented")
    if driver not in _MODES:
        return Forbidden(_NO_SWARM)
    option, modes, default = _MODES[driver]
    mode, parent = options.get(option, ""), options.get(_PARENT, "")
    if mode and mode not in modes:
        return SystemError_(
            f"requested {driver} mode '{mode}' is not valid, '{default}' mode is the {driver} driver default"
        )
    if parent == _LOOPBACK:
        return SystemError_(f"loopback interface is not a valid {driver} parent link")
    if not parent:
        return _without_parent(network_id, links) or unimplemented
    names = {link.name for link in links.links()}
    return unimplemented if parent in names else _no_parent(parent, names) or unimplemented


def _without_parent(network_id: str, links: Links) -> WharfError | None:
    name = f"dm-{network_id[:12]}"
    try:
        links.create_dummy(name)
    except NetlinkError as error:
        text = (
            "operation not supported" if error.errno == errno.EOPNOTSUPP else (error.strerror or "").lower()
        )
        return SystemError_(text)
    links.delete([name])
    return None


def _no_parent(parent: str, names: set[str]) -> WharfError | None:
    """What is wrong with the name of an interface that is not there; None: it could be made."""
    link, dot, number = parent.partition(".")
    if not dot:
        return SystemError_(f"invalid subinterface vlan name {parent}, example formatting is eth0.10")
    if "." in number:
        return SystemError_(
            "required interface name format is: name.vlan_id, ex. eth0.10 for vlan 10, "
            f"instead received {parent}"
        )
    if not number.isdigit():
        return SystemError_(f"unable to parse a valid vlan id from: {number} (ex. eth0.10 for vlan 10)")
    if link not in names:
        return SystemError_(f"-o parent interface was not found on the host: {link}")
    if not 1 <= int(number) <= 4094:
        return SystemError_(f"vlan id must be between 1-4094, received: {int(number)}")
    return None
