"""What a merged configuration must satisfy: a list of small checks, each with its own text.

A check gets flag name -> value for all options (defaults filled in) and raises
:class:`~services.engine.config.file.ConfigError`.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from services.engine.config.file import ConfigError, show
from services.engine.config.option import Option
from services.engine.config.options import OPTIONS

Values = Mapping[str, Any]

LOG_DRIVERS = ("json-file", "local", "none")
LOG_LEVELS = ("debug", "info", "warn", "error", "fatal")


def bridge_or_its_address(values: Values) -> None:
    if values["bridge"] and values["bip"]:
        raise ConfigError("You specified -b & --bip, mutually exclusive options. Please specify only one")


def icc_needs_iptables(values: Values) -> None:
    if not values["icc"] and not values["iptables"]:
        raise ConfigError(
            "You specified --iptables=false with --icc=false. ICC=false uses iptables to function. "
            "Please set --icc or --iptables to true"
        )


def mirrors(values: Values) -> None:
    """The texts are those of moby ``daemon/pkg/registry/config.go``."""
    for mirror in values["registry-mirror"]:
        scheme, found, rest = mirror.partition("://")
        if not found:
            text = f"invalid mirror: no scheme specified for {json.dumps(mirror)}"
            raise ConfigError(f"{text}: must use either 'https://' or 'http://'")
        if scheme not in ("http", "https"):
            text = f"invalid mirror: unsupported scheme {json.dumps(scheme)} in {json.dumps(mirror)}"
            raise ConfigError(f"{text}: must use either 'https://' or 'http://'")
        if not rest.rstrip("/") or "/" in rest.rstrip("/") or "?" in rest or "#" in rest:
            raise ConfigError(
                f"invalid mirror: path, query, or fragment at end of the URI {json.dumps(mirror)}"
            )


def ip_masq_needs_iptables(values: Values) -> None:
    if values["ip-masq"] and not values["iptables"]:
        raise ConfigError(
            "You specified --iptables=false with --ip-masq=true. IP masquerading uses iptables to function. "
            "Please set --ip-masq to false or --iptables to true"
        )


def addresses(values: Values) -> None:
    for flag in ("bip", "fixed-cidr"):
        if not values[flag]:
            continue
        try:
            interface = ipaddress.IPv4Interface(values[flag])
        except ValueError:
            raise ConfigError(f"invalid CIDR address: {values[flag]}") from None
        if flag == "bip" and "/" not in values[flag]:
            raise ConfigError(f"invalid CIDR address: {values[flag]}")
        if flag == "bip" and interface.ip == interface.network.network_address:
            raise ConfigError(f"bip {values[flag]} is the address of the network, not of the bridge")


def known_names(values: Values) -> None:
    if values["log-driver"] not in LOG_DRIVERS:
        raise ConfigError(
            f"failed to set log driver: logger: no log driver named '{values['log-driver']}' is registered"
        )
    if values["log-level"] not in LOG_LEVELS:
        raise ConfigError(f"invalid logging level: {values['log-level']}")
    if values["default-runtime"] != "runc":
        raise ConfigError(f"specified default runtime '{values['default-runtime']}' does not exist")


def selinux_or_btrfs(values: Values) -> None:
    if values["selinux-enabled"] and values["storage-driver"] == "btrfs":
        raise ConfigError("SELinux is not supported with the BTRFS graph driver")


def modes(values: Values) -> None:
    if values["default-ipc-mode"] not in ("private", "shareable"):
        raise ConfigError(f'IPC mode "{values["default-ipc-mode"]}" is not supported as default value')
    if values["default-cgroupns-mode"] not in ("private", "host"):
        raise ConfigError(
            f"default cgroup namespace mode ({values['default-cgroupns-mode']}) is invalid; "
            'use "host" or "private"'
        )


def labels_agree(values: Values) -> None:
    seen: dict[str, str] = {}
    for label in values["label"]:
        name, _, value = label.partition("=")
        if seen.setdefault(name, value) != value:
            raise ConfigError(f"conflict labels for {name}={value} and {name}={seen[name]}")


def numbers(values: Values) -> None:
    if values["mtu"] < 0:
        raise ConfigError(f"invalid default MTU: {values['mtu']}")
    if values["default-shm-size"] < 0:
        raise ConfigError(f"invalid default shm size: {values['default-shm-size']}")
    for flag in ("max-concurrent-downloads", "max-concurrent-uploads"):
        if values[flag] < 0:
            raise ConfigError(f"invalid {flag.replace('-', ' ')}: {values[flag]}")
    if values["max-download-attempts"] <= 0:
        raise ConfigError(f"invalid max download attempts: {values['max-download-attempts']}")


def seccomp_profile_is_there(values: Values) -> None:
    profile = values["seccomp-profile"]
    if profile in ("", "builtin", "unconfined"):
        return
    try:
        json.loads(Path(profile).read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"opening seccomp profile ({profile}) failed: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"decoding seccomp profile ({profile}) failed: {error}") from None


CHECKS: tuple[Callable[[Values], None], ...] = (
    bridge_or_its_address,
    icc_needs_iptables,
    ip_masq_needs_iptables,
    addresses,
    known_names,
    selinux_or_btrfs,
    modes,
    labels_agree,
    numbers,
    mirrors,
    seccomp_profile_is_there,
)


def refuse_unimplemented(values: Values) -> None:
    """An option that nothing implements may only ask for what is done anyway."""
    for option in OPTIONS:
        if option.field or option.only_flag:
            continue
        value = values[option.flag]
        if value != option.default and value not in option.same:
            raise ConfigError(f"{_named(option, value)} is not implemented by wharfd")


def _named(option: Option, value: Any) -> str:
    """The option, with its value where only that value is not implemented."""
    if option.default in ("", 0, [], {}) and not option.same:
        return f"--{option.flag}"
    return f"--{option.flag}={show(option, value)}"


def check(values: Values) -> None:
    for one in CHECKS:
        one(values)
    refuse_unimplemented(values)
