"""The kernel's side, off the event loop: one thread for what is waited for, one for what is not.

Removing a link takes the kernel 10 to 20 ms under the rtnl lock (it waits for RCU); creating a pair
takes less than one. So removals queue in a thread of their own and never delay a start or an rm.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from services.engine.networks import conntrack
from services.engine.networks.firewall import Firewall, PortRule
from services.engine.networks.links import Links
from services.engine.networks.netlink import NetlinkError
from services.engine.networks.relay import Relay

T = TypeVar("T")

log = logging.getLogger(__name__)


class Kernel:
    """Functions given to :meth:`run` may use ``links`` and ``firewall``, one at a time."""

    def __init__(self, table: str, *, firewall: bool) -> None:
        self.links = Links()
        self.firewall = Firewall(table) if firewall else None
        self.relay: Relay | None = None
        self._removing = Links()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="network")
        self._removals = ThreadPoolExecutor(1, thread_name_prefix="network-remove")

    async def run(self, function: Callable[..., T], *arguments: object) -> T:
        """*function* in the network thread, to its end even if the caller is cancelled."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)

    def submit(self, function: Callable[[], None]) -> None:
        """As :meth:`run`, for who does not wait; raises ``RuntimeError`` after the end."""
        self._pool.submit(function)

    def change_ports(self, remove: Iterable[PortRule], add: Iterable[PortRule]) -> None:
        """In the network thread: IPv4 by the firewall, the rest by the relay."""
        gone, new = _by_way(remove, self.firewall is not None), _by_way(add, self.firewall is not None)
        if self.firewall is not None and (gone[0] or new[0]):
            self.firewall.change_ports(gone[0], new[0])
            if any(rule.protocol == "udp" for rule in gone[0] + new[0]):
                conntrack.forget(self.firewall.socket, gone[0] + new[0])
        if self.relay is not None and (gone[1] or new[1]):
            self.relay.change(gone[1], new[1])

    def remove_links(self, names: Sequence[str]) -> None:
        """In the background; those that are gone already are no error."""
        if names:
            self._removals.submit(self._remove, list(names))

    def _remove(self, names: list[str]) -> None:
        try:
            self._removing.delete(names)
        except NetlinkError as error:
            log.error("links %s could not be removed: %s", ", ".join(names), error)

    def close(self) -> None:
        """Removals that are queued are finished first."""
        self._removals.shutdown()
        self._pool.shutdown()
        if self.relay is not None:
            self.relay.close()
        self._removing.close()
        self.links.close()
        if self.firewall is not None:
            self.firewall.close()


def _by_way(rules: Iterable[PortRule], firewall: bool) -> tuple[list[PortRule], list[PortRule]]:
    """(for the firewall, for the relay)."""
    sorted_: tuple[list[PortRule], list[PortRule]] = ([], [])
    for rule in rules:
        sorted_[":" in rule.host_ip or not firewall].append(rule)
    return sorted_


def write_sysctl(path: str, value: str) -> None:
    """``net/ipv4/ip_forward``; a kernel that lacks it, or forbids it, is told in the log only."""
    file = Path("/proc/sys") / path
    try:
        if file.read_text().strip() != value:
            file.write_text(value)
    except OSError as error:
        log.warning("%s could not be set to %s: %s", file, value, error)
