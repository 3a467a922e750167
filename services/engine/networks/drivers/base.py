"""What a network driver is asked: the kernel's side of networks and endpoints.

Life: ``create`` -> (``join`` -> ``leave``)* -> ``remove``; ``create`` is repeated at start-up and must
adopt what is there. Records are kept by the caller, before ``create`` and ``join``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from services.engine.networks.model import EndpointRecord, NetworkRecord


class Driver(Protocol):
    """Methods run in the network thread and block."""

    name: str
    #: Containers get an interface and addresses of their own.
    addresses: bool

    def options(self, options: Mapping[str, str], *, internal: bool = False) -> None:
        """Refuse what is not understood or does not go together: ``InvalidParameter``, ``SystemError_``."""

    def needs_gateway(self, options: Mapping[str, str], *, internal: bool) -> bool:
        """Whether an address is to be chosen for the gateway if the user has given none."""

    def interface_name(self, network_id: str, options: Mapping[str, str]) -> str:
        """The host's interface of a new network."""

    def create(self, network: NetworkRecord) -> None: ...

    def remove(self, network: NetworkRecord) -> None: ...

    def join(self, network: NetworkRecord, endpoint: EndpointRecord, namespace: int) -> None:
        """Give the namespace of the descriptor the endpoint's interface."""

    def leave(self, endpoints: Sequence[EndpointRecord]) -> None:
        """Take interfaces back, without waiting; idempotent."""
