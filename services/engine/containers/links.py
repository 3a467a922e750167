"""Legacy links (``--link``) of containers on networks that are not user-defined.

A link is stored as ``<id of the other>:<alias>``, so that it survives a rename; it gives the other
container the additional name ``/<this>/<alias>``.
"""

from __future__ import annotations

from services.engine.containers.modes import is_user_defined_network, joined_container
from services.engine.containers.registry import Registry
from services.protocol.api.containers import HostConfig
from services.protocol.errors import InvalidParameter, NotFound


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


def shown_links(registry: Registry, owner_name: str, links: list[str] | None) -> list[str] | None:
    """As inspect shows them: ``/db:/app/store``; without those whose container is gone."""
    if not links:
        return None
    shown = []
    for link in links:
        ref, alias = parse_link(link)
        if (child := registry.find(ref)) is not None:
            shown.append(f"/{child.definition.name}:/{owner_name}/{alias}")
    return shown or None


def link_names(registry: Registry) -> dict[str, list[str]]:
    """Container -> its additional names (``/app/store``), of all links."""
    names: dict[str, list[str]] = {}
    for entry in registry:
        links = entry.definition.host_config.links
        if not links or is_user_defined_network(entry.definition.host_config.network_mode):
            continue
        for link in links:
            ref, alias = parse_link(link)
            names.setdefault(ref, []).append(f"/{entry.definition.name}/{alias}")
    return names
