"""Images as older API versions show them."""

from __future__ import annotations

from typing import Any

Version = tuple[int, int]


#: What an image's configuration has (moby ``dockerspec.DockerOCIImageConfig``), and what API versions
#: before 1.50 showed of a container's beside it.
_CONFIG: dict[str, Any] = {
    "User": "",
    "Env": None,
    "Entrypoint": None,
    "Cmd": None,
    "Volumes": None,
    "WorkingDir": "",
    "Labels": None,
    "OnBuild": None,
}
_CONFIG_OPTIONAL = ("ExposedPorts", "StopSignal", "ArgsEscaped", "Healthcheck", "Shell")
_CONFIG_BEFORE_1_50: dict[str, Any] = {
    "Hostname": "",
    "Domainname": "",
    "AttachStdin": False,
    "AttachStdout": False,
    "AttachStderr": False,
    "Tty": False,
    "OpenStdin": False,
    "StdinOnce": False,
    "Image": "",
}


#: Shown from 1.52 only when they have a value.
_NOT_EMPTY = ("Parent", "Comment", "DockerVersion", "Author")


def _config(config: dict[str, Any], version: Version) -> dict[str, Any]:
    if version >= (1, 52):
        return {name: config[name] for name in (*_CONFIG, *_CONFIG_OPTIONAL) if config.get(name)}
    # What is empty has been left out before, as in an OCI configuration, and comes back as nothing.
    shown = {name: config.get(name) or default for name, default in _CONFIG.items()}
    shown.update({name: config[name] for name in _CONFIG_OPTIONAL if config.get(name)})
    return {**_CONFIG_BEFORE_1_50, **shown} if version < (1, 50) else shown


def is_rewritten(document: dict[str, Any], version: Version) -> bool:
    """What dockerd adds of old to an image's document (moby ``daemon/internal/compat``) passes through a
    map: then its members are sorted and its text has no HTML."""
    return version < (1, 52) or "Parent" in document or "DockerVersion" in document


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _sorted(value[name]) for name in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value


def inspect(document: dict[str, Any], version: Version) -> dict[str, Any]:
    """*document* is changed."""
    if document.get("Config") is not None:
        document["Config"] = _config(document["Config"], version)
    if version < (1, 44):
        document["VirtualSize"] = document.get("Size", 0)
        document["Created"] = document.get("Created") or "0001-01-01T00:00:00Z"
    if version < (1, 45):
        # What an image was committed from was recorded by builders of old.
        document.update(Container="", ContainerConfig=_config({}, version))
    if version >= (1, 52):
        for name in _NOT_EMPTY:
            if not document.get(name):
                document.pop(name, None)
    return dict(_sorted(document)) if is_rewritten(document, version) else document


def summary(row: dict[str, Any], version: Version) -> dict[str, Any]:
    """*row* is changed."""
    if version < (1, 44):
        row["VirtualSize"] = row.get("Size", 0)
    if version < (1, 51):
        row["Containers"] = -1  # was not counted
    if version < (1, 43):
        tags, digests = row.get("RepoTags") or None, row.get("RepoDigests") or None
        nameless = not tags and not digests
        row["RepoTags"] = ["<none>:<none>"] if nameless else tags
        row["RepoDigests"] = ["<none>@<none>"] if nameless else digests
    return dict(_sorted(row)) if version < (1, 44) else row
