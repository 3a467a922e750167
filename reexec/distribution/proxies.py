"""Proxies for outgoing requests: which one a URL takes, by the rules of Go's ``httpproxy``.

They are what the environment's ``HTTP_PROXY``, ``HTTPS_PROXY`` and ``NO_PROXY`` say (or their lower
case). The engine sets them for its helpers where the daemon's options do.
"""

from __future__ import annotations

import ipaddress
import os
from urllib.parse import unquote, urlsplit, urlunsplit

import msgspec

from services.protocol.errors import InvalidParameter

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_SCHEMES = ("http", "https")
#: In the order of the members of :class:`Proxies`.
VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
_SOCKS = ("socks4", "socks4a", "socks5", "socks5h")


class Proxies(msgspec.Struct, frozen=True):
    """``skipped``: hosts, ``.domains``, addresses, networks (each with a port or without), or ``*``."""

    http: str = ""
    https: str = ""
    skipped: str = ""

    def of(self, url: str) -> str:
        """URL of the proxy for *url*, "" for none. Raises ``InvalidParameter`` for one of a wrong kind."""
        parts = urlsplit(url)
        proxy = {"http": self.http, "https": self.https}.get(parts.scheme, "")
        port = parts.port or (443 if parts.scheme == "https" else 80)
        if not proxy or self._is_skipped((parts.hostname or "").lower(), port):
            return ""
        proxy = proxy if "://" in proxy else f"http://{proxy}"
        scheme = proxy.partition("://")[0]
        if scheme in _SOCKS:
            raise InvalidParameter(f"SOCKS proxies are not implemented: {masked(proxy)}")
        if scheme not in _SCHEMES:
            raise InvalidParameter(f"invalid proxy address: {masked(proxy)}")
        return proxy

    def _is_skipped(self, host: str, port: int) -> bool:
        """Loopback never has a proxy."""
        address = _address(host)
        if host == "localhost" or (address is not None and address.is_loopback):
            return True
        entries = (entry.strip().lower() for entry in self.skipped.split(","))
        return any(_covers(entry, host, address, port) for entry in entries if entry)


def _address(host: str) -> _Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _covers(entry: str, host: str, address: _Address | None, port: int) -> bool:
    if entry == "*":
        return True
    if "/" in entry:
        try:
            return address is not None and address in ipaddress.ip_network(entry, strict=False)
        except ValueError:
            return False
    name, wanted = _split_port(entry)
    if not name or (wanted and wanted != str(port)):
        return False
    if (listed := _address(name)) is not None:
        return listed == address
    name = name[1:] if name.startswith("*.") else name
    if name.startswith("."):
        return host.endswith(name)
    return host == name or host.endswith(f".{name}")


def _split_port(entry: str) -> tuple[str, str]:
    if entry.startswith("["):
        name, _, rest = entry[1:].partition("]")
        return name, rest.removeprefix(":")
    if entry.count(":") != 1:
        return entry, ""
    name, _, port = entry.partition(":")
    return name, port


def environment() -> Proxies:
    """What the variables of this process say; upper case comes first, as in Go."""
    return Proxies(*(os.environ.get(name) or os.environ.get(name.lower()) or "" for name in VARIABLES))


def account(proxy: str) -> tuple[str, str] | None:
    """User and password in a proxy's URL."""
    parts = urlsplit(proxy)
    if parts.username is None:
        return None
    return unquote(parts.username), unquote(parts.password or "")


def masked(url: str) -> str:
    """*url* as it may be shown: ``http://xxxxx:xxxxx@proxy:3128``."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return url
    if "@" not in parts.netloc:
        return url
    return urlunsplit(parts._replace(netloc="xxxxx:xxxxx@" + parts.netloc.rpartition("@")[2]))


__all__ = ["VARIABLES", "Proxies", "account", "environment", "masked"]
