"""The networks that need nothing of the kernel: ``host`` and ``none``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from services.engine.networks.model import EndpointRecord, NetworkRecord


class _Predefined:
    """There is one network of it, made by the daemon."""

    name = ""
    addresses = False

    def options(self, options: Mapping[str, str], *, internal: bool = False) -> None:
        """None are known, and the predefined network has none."""

    def needs_gateway(self, options: Mapping[str, str], *, internal: bool) -> bool:
        return False

    def interface_name(self, network_id: str, options: Mapping[str, str]) -> str:
        return ""

    def create(self, network: NetworkRecord) -> None:
        """There is nothing to make."""

    def remove(self, network: NetworkRecord) -> None:
        """There is nothing to remove."""

    def join(self, network: NetworkRecord, endpoint: EndpointRecord, namespace: int) -> None:
        """The runtime chose the namespace."""

    def leave(self, endpoints: Sequence[EndpointRecord]) -> None:
        """Nothing was made."""


class NullDriver(_Predefined):
    """A namespace with nothing but its loopback interface."""

    name = "null"


class HostDriver(_Predefined):
    """The host's own namespace."""

    name = "host"
