"""Who has a name, seen from one sandbox: only its own user-defined networks count."""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Iterator

from services.engine.networks.model import PREDEFINED, EndpointRecord, SandboxRecord
from services.engine.networks.sandboxes import Sandboxes
from services.engine.networks.views import dns_names

_REVERSE = ".in-addr.arpa"


class Names:
    """Looks names up in the sandboxes there are at that moment."""

    def __init__(self, sandboxes: Sandboxes) -> None:
        self._sandboxes = sandboxes

    def addresses(self, sandbox: SandboxRecord, name: str) -> list[str] | None:
        """IPv4 addresses in changing order; None if nobody in reach has the name.

        ``container.network`` is a name too.
        """
        short, _, network = name.rpartition(".")
        found = []
        for other, endpoint in self._reachable(sandbox):
            names = [one.lower() for one in dns_names(other, endpoint.settings)]
            qualified = short in names and network == endpoint.network_name.lower()
            if endpoint.ipv4 and (name in names or qualified):
                found.append(endpoint.ipv4)
        found += self._linked(sandbox, name)
        random.shuffle(found)
        return list(dict.fromkeys(found)) or None

    def reverse(self, sandbox: SandboxRecord, name: str) -> str | None:
        """The name of ``4.3.2.1.in-addr.arpa``: ``container.network``."""
        if not name.endswith(_REVERSE):
            return None
        try:
            parts = name.removesuffix(_REVERSE).split(".")
            address = str(ipaddress.IPv4Address(".".join(reversed(parts))))
        except ValueError:
            return None
        for other, endpoint in self._reachable(sandbox):
            if endpoint.ipv4 == address:
                return f"{other.container_name}.{endpoint.network_name}"
        return None

    def _reachable(self, sandbox: SandboxRecord) -> Iterator[tuple[SandboxRecord, EndpointRecord]]:
        for mine in sandbox.endpoints:
            if mine.network_name not in PREDEFINED:
                yield from self._sandboxes.users(mine.network_id)

    def _linked(self, sandbox: SandboxRecord, name: str) -> Iterator[str]:
        """``container:alias`` links, which only this sandbox sees."""
        for mine in sandbox.endpoints:
            for link in mine.settings.links or ():
                target, _, alias = link.partition(":")
                if name != (alias or target).lower():
                    continue
                for other, endpoint in self._sandboxes.users(mine.network_id):
                    if target in (other.container_name, other.container_id):
                        yield endpoint.ipv4
