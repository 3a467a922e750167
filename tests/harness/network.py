"""What the tests themselves look up and take away in the kernel's network."""

from __future__ import annotations

import contextlib
import errno
import json
import random
import shutil
import socket
import subprocess

#: Below those that the kernel gives to whoever asks for none (ip_local_port_range).
_PORTS = range(21000, 28000)


def links() -> set[str]:
    """Names of the host's network devices."""
    out = subprocess.run(["ip", "-json", "link", "show"], check=True, capture_output=True, text=True).stdout
    return {item["ifname"] for item in json.loads(out or "[]") if item}


def tables() -> set[str]:
    """``family name`` of the nftables tables; empty where there is no nft command to ask."""
    if shutil.which("nft") is None:
        return set()
    out = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True).stdout
    return {line.removeprefix("table ").strip() for line in out.splitlines()}


def unused_port() -> int:
    """A port that nobody has at any address, and that nobody gets who does not ask for it."""
    numbers = random.sample(_PORTS, len(_PORTS))
    return next(number for number in numbers if _is_unused(number))


def _is_unused(number: int) -> bool:
    with contextlib.ExitStack() as stack:
        for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::1")):
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                try:
                    stack.enter_context(socket.socket(family, kind)).bind((address, number))
                except OSError as error:
                    if error.errno == errno.EADDRINUSE:
                        return False
    return True


def remove_bridge(name: str) -> None:
    subprocess.run(["ip", "link", "delete", name], capture_output=True)


def remove_tables(word: str) -> None:
    """Delete the nftables tables whose name has *word* in it."""
    for table in tables():
        if word in table:
            subprocess.run(["nft", "delete", "table", *table.split()], capture_output=True)
