"""Containers as older API versions show them; the engine's documents are the newest version's."""

from __future__ import annotations

from typing import Any

Version = tuple[int, int]

#: Fields of the endpoint on the default bridge that were shown beside ``Networks`` before 1.52.
_BRIDGE_FIELDS: dict[str, Any] = {
    "EndpointID": "",
    "Gateway": "",
    "GlobalIPv6Address": "",
    "GlobalIPv6PrefixLen": 0,
    "IPAddress": "",
    "IPPrefixLen": 0,
    "IPv6Gateway": "",
    "MacAddress": "",
}

#: Networks whose endpoints have no aliases.
_OWN_NETWORKS = ("default", "bridge", "host", "none")


def inspect(document: dict[str, Any], version: Version) -> dict[str, Any]:
    settings = document["NetworkSettings"]
    if version < (1, 52):
        bridge = (settings.get("Networks") or {}).get("bridge")
        if bridge is not None:
            settings.update({name: bridge.get(name, zero) for name, zero in _BRIDGE_FIELDS.items()})
    else:
        document["Config"].pop("MacAddress", None)
    if version < (1, 45):
        own = [document["Id"][:12], document["Config"].get("Hostname", "")]
        for name, endpoint in (settings.get("Networks") or {}).items():
            if name not in _OWN_NETWORKS and not name.startswith("container:"):
                endpoint["Aliases"] = list(dict.fromkeys([*(endpoint.get("Aliases") or ()), *own]))
    # Docker's engine turns these documents into maps to change them, which sorts their keys.
    return _sorted(document) if version < (1, 52) else document


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return [_sorted(item) for item in value]
    return value


def summary(row: dict[str, Any], version: Version) -> dict[str, Any]:
    if version < (1, 52):
        row.pop("Health", None)
    if version < (1, 46):
        row["HostConfig"].pop("Annotations", None)
    return row
