"""Containers as ``network connect`` and ``disconnect`` see them (:class:`ContainerNetworks`)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from services.engine.containers import transitions
from services.engine.containers.services import Services
from services.engine.contracts import NetworkedContainer, Sandbox
from services.protocol.api.networks import EndpointSettings
from services.protocol.errors import NotFound


class NetworkedContainers:
    """Bound to the networks by the daemon."""

    def __init__(self, services: Services) -> None:
        self._services = services

    @asynccontextmanager
    async def hold(self, ref: str) -> AsyncIterator[NetworkedContainer]:
        entry = self._services.registry.get(ref)
        async with entry.runtime.lock:
            if entry.runtime.gone:
                raise NotFound(f"No such container: {ref}")
            definition, state = entry.definition, entry.state
            yield NetworkedContainer(
                id=entry.id,
                name=definition.name,
                hostname=definition.config.hostname,
                domainname=definition.config.domainname,
                network_mode=definition.host_config.network_mode,
                pid=state.pid if transitions.has_task(state) else 0,
                endpoints=definition.endpoints,
                hosts_path=str(self._services.container_dir(entry.id) / "hosts"),
                resolv_conf_path=str(self._services.container_dir(entry.id) / "resolv.conf"),
            )

    async def set_endpoints(
        self, container_id: str, requested: Mapping[str, EndpointSettings], sandbox: Sandbox | None
    ) -> None:
        entry = self._services.registry.get(container_id)
        entry.definition.endpoints = dict(requested)
        if sandbox is not None:
            entry.state = transitions.replace(entry.state, endpoints=sandbox.endpoints, ports=sandbox.ports)
        await self._services.registry.save(entry)
