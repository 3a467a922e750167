"""How requests of older API versions are read, and what newer ones refuse (moby's create route)."""

from __future__ import annotations

import re

from msgspec import UNSET

from services.engine.containers import modes
from services.engine.containers.mount_check import flag, text
from services.protocol.api.containers import Config, HostConfig, Mount, PortBinding
from services.protocol.api.networks import EndpointSettings
from services.protocol.errors import InvalidParameter

Version = tuple[int, int]
Endpoints = dict[str, EndpointSettings]

_MAC = re.compile(r"[0-9A-Fa-f]{2}([:-][0-9A-Fa-f]{2}){5}\Z|[0-9A-Fa-f]{4}(\.[0-9A-Fa-f]{4}){2}\Z")
_MAC_WARNING = (
    "The container-wide MacAddress field is now deprecated. "
    "It should be specified in EndpointsConfig instead."
)
_VOLUME_DRIVER_WARNING = (
    "WARNING: the container-wide volume-driver configuration is ignored for volumes specified via 'mount'. "
    "Use '--mount type=volume,volume-driver=...' instead"
)
NO_SUCH_ENDPOINT = "HostConfig.NetworkMode must match the identity of a network in NetworkSettings.Networks"


def adapt_default_network(host: HostConfig, endpoints: Endpoints) -> None:
    """``default`` and nothing are the bridge."""
    if modes.is_default_network(host.network_mode):
        host.network_mode = "bridge"
        if "default" in endpoints:
            endpoints["bridge"] = endpoints.pop("default")


def adapt_version(config: Config, host: HostConfig, endpoints: Endpoints, version: Version) -> None:
    """Defaults and fields that came with later versions."""
    if version < (1, 40) and not host.ipc_mode:
        host.ipc_mode = "shareable"
    if version < (1, 41) and not host.cgroupns_mode:
        host.cgroupns_mode = "host"
    if version < (1, 43):
        host.annotations = UNSET
    if version < (1, 42):
        _drop_before_1_42(host, version)
    else:
        _check_mount_options(host)
    if version < (1, 44):
        _check_before_1_44(config, host, endpoints)
    if version < (1, 45):
        for mount in [] if host.mounts is UNSET else host.mounts:
            if mount.volume_options is not UNSET and text(mount.volume_options.subpath):
                raise InvalidParameter("VolumeOptions.Subpath needs API v1.45 or newer")
    if host.pids_limit is not None and host.pids_limit <= 0:
        host.pids_limit = None


def _drop_before_1_42(host: HostConfig, version: Version) -> None:
    host.console_size = [0, 0]
    for mount in [] if host.mounts is UNSET else host.mounts:
        if mount.bind_options is not UNSET:
            mount.bind_options.create_mountpoint = UNSET
            if version < (1, 40):
                mount.bind_options.non_recursive = UNSET
        if mount.type_ != "volume":
            mount.volume_options = UNSET
        if mount.type_ != "tmpfs":
            mount.tmpfs_options = UNSET


def _check_mount_options(host: HostConfig) -> None:
    for mount in [] if host.mounts is UNSET else host.mounts:
        kind = text(mount.type_)
        for name, options, owner in (
            ("VolumeOptions", mount.volume_options, "volume"),
            ("BindOptions", mount.bind_options, "bind"),
            ("TmpfsOptions", mount.tmpfs_options, "tmpfs"),
        ):
            if options is not UNSET and kind != owner:
                raise InvalidParameter(f'{name} must not be specified on mount type "{kind}"')


def _check_before_1_44(config: Config, host: HostConfig, endpoints: Endpoints) -> None:
    if config.healthcheck is not UNSET:
        config.healthcheck.start_interval = UNSET
    for mount in [] if host.mounts is UNSET else host.mounts:
        options = mount.bind_options
        if options is not UNSET and flag(options.read_only_force_recursive):
            raise InvalidParameter("BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer")
    if len(endpoints) > 1:
        names = ", ".join(endpoints)
        raise InvalidParameter(f"Container cannot be created with multiple network endpoints: {names}")


def adapt_port_bindings(host: HostConfig, version: Version) -> list[str]:
    """A port with an empty list is bound to any; returns the warning that newer clients get."""
    empty = [port for port, bindings in (host.port_bindings or {}).items() if not bindings]
    for port in empty:
        assert host.port_bindings is not None
        host.port_bindings[port] = [PortBinding()]
    if not empty or version < (1, 52):
        return []
    return [
        f"Following container port(s) have an empty list of port-bindings: {', '.join(empty)}. "
        "Such bindings will be discarded in a future version."
    ]


def volume_driver_warnings(host: HostConfig, version: Version) -> list[str]:
    """Mounts name their driver themselves; older clients say so on their own."""
    if not host.volume_driver or version < (1, 48) or host.mounts is UNSET:
        return []
    return [_VOLUME_DRIVER_WARNING] if any(_has_no_driver(mount) for mount in host.mounts) else []


def _has_no_driver(mount: Mount) -> bool:
    options = mount.volume_options
    driver = UNSET if options is UNSET else options.driver_config
    return mount.type_ == "volume" and (driver is UNSET or not text(driver.name))


def adapt_mac_address(config: Config, host: HostConfig, endpoints: Endpoints, version: Version) -> list[str]:
    """Move the container-wide address to its network; returns the deprecation's warning.

    An address that is none is dropped without a word, as Docker's engine does.
    """
    address = "" if config.mac_address is UNSET else config.mac_address
    config.mac_address = UNSET
    if not _MAC.match(address):
        address = ""
    own_network = host.network_mode == "bridge" or modes.is_user_defined_network(host.network_mode)
    if version < (1, 44):
        _adapt_old_mac_address(address, host, endpoints, own_network=own_network)
        return []
    if not address:
        return []
    if own_network:
        _migrate_mac_address(address, host, endpoints)
    return [_MAC_WARNING]


def _adapt_old_mac_address(
    address: str, host: HostConfig, endpoints: Endpoints, *, own_network: bool
) -> None:
    if address and not own_network:
        raise InvalidParameter("conflicting options: mac-address and the network mode")
    if address and not endpoints:
        endpoints[modes.network_name(host.network_mode)] = EndpointSettings()
    for endpoint in endpoints.values():
        endpoint.mac_address = address


def _migrate_mac_address(address: str, host: HostConfig, endpoints: Endpoints) -> None:
    name = modes.network_name(host.network_mode)
    if not endpoints:
        endpoints[name] = EndpointSettings()
    if name not in endpoints:
        raise InvalidParameter(
            f"unable to migrate container-wide MAC address to a specific network: {NO_SUCH_ENDPOINT}"
        )
    endpoint = endpoints[name]
    if endpoint.mac_address not in ("", address):
        raise InvalidParameter(
            "the container-wide MAC address must match the endpoint-specific MAC address for the main "
            "network, or be left empty"
        )
    endpoint.mac_address = address
