"""What the tests themselves look up and take away in the kernel's network."""

from __future__ import annotations

import json
import shutil
import subprocess


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


def remove_bridge(name: str) -> None:
    subprocess.run(["ip", "link", "delete", name], capture_output=True)


def remove_tables(word: str) -> None:
    """Delete the nftables tables whose name has *word* in it."""
    for table in tables():
        if word in table:
            subprocess.run(["nft", "delete", "table", *table.split()], capture_output=True)
