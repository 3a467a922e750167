"""Addresses the daemon listens on (``-H``), as dockerd reads them (moby ``opts/hosts.go``)."""

from __future__ import annotations

from services.protocol.settings import DEFAULT_HOST

_TCP_PORT = 2375


def parse_host(text: str) -> str:
    """*text* completed: ``unix://<path>``, ``tcp://<host>:<port>`` or ``fd://<name>``.

    Raises ``ValueError``.
    """
    text = text.strip()
    if not text:
        return DEFAULT_HOST
    scheme, separator, address = text.partition("://")
    if not separator:
        return _tcp(text, text)
    if scheme == "tcp":
        return _tcp(address, text)
    if scheme == "unix":
        return f"unix://{address}" if address else DEFAULT_HOST
    if scheme == "fd":
        return text
    raise ValueError(f"invalid bind address ({text}): unsupported proto '{scheme}'")


def _tcp(address: str, text: str) -> str:
    if "/" in address or "@" in address or "?" in address:
        raise ValueError(f"invalid bind address ({text}): should not contain a path element")
    host, colon, port = address.rpartition(":")
    if not colon or address.endswith("]"):
        host, port = address, str(_TCP_PORT)
    if not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"invalid bind address ({text}): invalid port {port!r}")
    return f"tcp://{host or 'localhost'}:{port}"
