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

        ``container.network`` is a name too, and both parts may have dots. The first network that
        has the name answers (moby ``Sandbox.ResolveName``); a link's alias goes before a name.
        """
        endpoints = self._endpoints(sandbox)
        for short, network in _splits(name):
            asked = [one for one in endpoints if network in ("", one.network_name.lower())]
            for look in (self._aliased, self._named):
                for mine in asked:
                    if found := look(mine, short):
                        random.shuffle(found)
                        return found
        return None

    def _endpoints(self, sandbox: SandboxRecord) -> list[EndpointRecord]:
        """Those in user-defined networks, in libnetwork's order (``Endpoint.Less``)."""
        mine = [one for one in sandbox.endpoints if one.network_name not in PREDEFINED]
        internal = self._sandboxes.is_internal
        return sorted(
            mine,
            key=lambda one: (-one.settings.gw_priority, internal(one.network_id), one.network_name),
        )

    def _named(self, mine: EndpointRecord, name: str) -> list[str]:
        """A name that is a link's alias means the link's target only."""
        return [] if name in _aliases(mine) else self._owners(mine, name)

    def _aliased(self, mine: EndpointRecord, name: str) -> list[str]:
        target = _aliases(mine).get(name)
        return self._owners(mine, target) if target else []

    def _owners(self, mine: EndpointRecord, name: str) -> list[str]:
        """Addresses in the network of *mine* that have the name."""
        found = []
        for other, endpoint in self._sandboxes.users(mine.network_id):
            names = [one.lower() for one in dns_names(other, endpoint.settings)]
            if endpoint.ipv4 and (name in names or name == other.container_id):
                found.append(endpoint.ipv4)
        return list(dict.fromkeys(found))

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


def _splits(name: str) -> Iterator[tuple[str, str]]:
    """``a.b.c`` -> ("a.b.c", ""), ("a.b", "c"), ("a", "b.c"): a name and the network it is looked for in."""
    yield name, ""
    labels = name.split(".")
    for count in range(len(labels) - 1, 0, -1):
        yield ".".join(labels[:count]), ".".join(labels[count:])


def _aliases(mine: EndpointRecord) -> dict[str, str]:
    """Alias -> name of the ``container:alias`` links, which only this sandbox sees."""
    found = {}
    for link in mine.settings.links or ():
        target, _, alias = link.partition(":")
        # The form of container links: "/target:/container/alias".
        found[(alias.rpartition("/")[2] or target).lower()] = target.lstrip("/").lower()
    return found
