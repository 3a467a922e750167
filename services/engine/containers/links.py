"""Legacy links (``--link``) of containers on networks that are not user-defined.

A link is stored as ``<id of the other>:<alias>``, so that it survives a rename; it gives the other
container the additional name ``/<this>/<alias>``.
"""

from __future__ import annotations

from services.engine.containers.model import Entry
from services.engine.containers.modes import is_user_defined_network, joined_container
from services.engine.containers.registry import Registry
from services.engine.containers.transitions import has_task
from services.protocol.api.containers import HostConfig
from services.protocol.errors import InvalidParameter, NotFound, SystemError_, WharfError


def parse_link(text: str) -> tuple[str, str]:
    """(name, alias); raises ``InvalidParameter``."""
    if not text:
        raise InvalidParameter("empty string specified for links")
    parts = text.split(":")
    if len(parts) > 2:
        raise InvalidParameter(f"bad format for links: {text}")
    name = parts[0]
    if len(parts) == 1:
        return name, name.removeprefix("/")
    # "/name:/other/alias" is what inspect shows.
    alias = parts[1].rsplit("/", 1)[-1] if name.startswith("/") else parts[1]
    return name, alias


def resolve_links(registry: Registry, host: HostConfig) -> list[str] | None:
    """``host.links`` with ids; raises ``InvalidParameter`` for a container that is not there."""
    if not host.links or is_user_defined_network(host.network_mode):
        return host.links
    resolved = []
    for text in host.links:
        name, alias = parse_link(text)
        try:
            child = registry.get(name)
            while ref := joined_container(child.definition.host_config.network_mode):
                child = registry.get(ref)
        except NotFound as error:
            raise InvalidParameter(f"could not get container for {name}: {error}") from error
        if child.definition.host_config.network_mode == "host":
            raise InvalidParameter(
                "conflicting options: host type networking can't be used with links. "
                "This would result in undefined behavior"
            )
        link = f"{child.id}:{alias}"
        if link not in resolved:
            resolved.append(link)
    return resolved


def linked(registry: Registry, entry: Entry) -> list[tuple[Entry, str]]:
    """(other container, alias) of each link; without those whose container is gone."""
    host = entry.definition.host_config
    if not host.links or is_user_defined_network(host.network_mode):
        return []
    pairs = (parse_link(link) for link in host.links)
    return [(child, alias) for ref, alias in pairs if (child := registry.find(ref)) is not None]


def link_hosts(registry: Registry, entry: Entry) -> list[str]:
    """``names:address`` of each link, for /etc/hosts: alias, host name and name of the other.

    Raises ``SystemError_`` when a linked container does not run.
    """
    lines = []
    for child, alias in linked(registry, entry):
        if not has_task(child.state):
            raise SystemError_(
                f"Cannot link to a non running container: /{child.definition.name} "
                f"AS /{entry.definition.name}/{alias}"
            )
        endpoint = child.state.endpoints.get("bridge")
        if endpoint is None or not endpoint.ip_address:
            continue
        names = dict.fromkeys((alias, child.definition.config.hostname, child.definition.name))
        lines.append(f"{' '.join(names)}:{endpoint.ip_address}")
    return lines


def find_linked(registry: Registry, path: str) -> tuple[Entry, Entry, str] | None:
    """(owner, other, alias) of the link name ``/owner/alias``; None when there is no such link."""
    name, slash, alias = path.removeprefix("/").partition("/")
    if not slash:
        return None
    try:
        owner = registry.get(name)
    except WharfError:
        return None
    found = next((child for child, other in linked(registry, owner) if other == alias), None)
    return None if found is None else (owner, found, alias)


async def remove_link(registry: Registry, path: str) -> None:
    """``docker rm --link owner/alias``: the link goes, both containers stay."""
    if "/" not in path.removeprefix("/"):
        registry.get(path)
        raise SystemError_("Conflict, cannot remove the default link name of the container")
    found = find_linked(registry, path)
    if found is None:
        raise NotFound(f"No such container: {path}")
    owner, child, alias = found
    async with owner.runtime.lock:
        host = owner.definition.host_config
        host.links = [link for link in host.links or [] if parse_link(link) != (child.id, alias)]
        await registry.save_definition(owner)


def shown_links(registry: Registry, entry: Entry) -> list[str] | None:
    """As inspect shows them: ``/db:/app/store``."""
    owner = entry.definition.name
    return [f"/{child.definition.name}:/{owner}/{alias}" for child, alias in linked(registry, entry)] or None


def link_names(registry: Registry) -> dict[str, list[str]]:
    """Container -> its additional names (``/app/store``), of all links."""
    names: dict[str, list[str]] = {}
    for entry in registry:
        for child, alias in linked(registry, entry):
            names.setdefault(child.id, []).append(f"/{entry.definition.name}/{alias}")
    return names
