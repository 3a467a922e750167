"""What is an IP address, wherever a request or a Dockerfile has one as text."""

from __future__ import annotations

import ipaddress


def is_address(text: str) -> bool:
    """IPv4 or IPv6."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
