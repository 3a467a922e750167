"""Compares the host before and after: mounts, namespaces, links, cgroups, rules, processes, files.

On a host where other daemons come and go meanwhile, set ``WHARFD_SHARED_HOST``: then only what
names a test daemon is compared.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, fields
from pathlib import Path

from tests.harness import SESSION
from tests.harness.network import links, tables

#: Seconds that the kernel gets to finish what was begun (a namespace dies some time after its
#: last process).
SETTLE = 60.0
#: How test daemons name their roots and bridges (``Engine``).
#: Parent of all containers' cgroups.
CGROUP_PARENT = "wharfd"
MARKS = (f"/tmp/wh-{SESSION}-", f"wht{SESSION}")


@dataclass(frozen=True)
class Snapshot:
    mounts: frozenset[str]
    links: frozenset[str]
    tables: frozenset[str]
    cgroups: frozenset[str]
    processes: frozenset[str]
    directories: frozenset[str]
    netns: frozenset[str]

    def gained(self, before: Snapshot) -> list[str]:
        """What is here and was not *before*, one line each."""
        return [
            f"{field.name}: {item}"
            for field in fields(self)
            for item in sorted(getattr(self, field.name) - getattr(before, field.name))
            if field.name != "cgroups" or not _of_others(item, before)
        ]


def take() -> Snapshot:
    return Snapshot(
        mounts=frozenset(_mounts()),
        links=frozenset(links()),
        tables=frozenset(tables()),
        cgroups=frozenset(_cgroups()),
        processes=frozenset(_processes()),
        directories=frozenset(map(str, Path("/tmp").glob("wh-*"))),
        netns=frozenset(_network_namespaces()),
    )


def leaked(before: Snapshot) -> list[str]:
    """What *before* had not and is still there after a while."""
    deadline = time.monotonic() + SETTLE
    while True:
        found = take().gained(before)
        if os.environ.get("WHARFD_SHARED_HOST"):
            found = [line for line in found if any(mark in line for mark in MARKS)]
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.2)


def _mounts() -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [f"{fields[4]} {fields[-3]}" for fields in map(str.split, lines)]


def _cgroups() -> list[str]:
    """All but the parent that the containers of all daemons share; each daemon leaves it to the others."""
    found = []
    for directory, names, _ in os.walk("/sys/fs/cgroup"):
        found += [os.path.join(directory, name) for name in names if name != CGROUP_PARENT]
    return found


def _of_others(cgroup: str, before: Snapshot) -> bool:
    """Below one that somebody else has made: whoever runs the tests may run each command in its own."""
    parents = (str(parent) for parent in Path(cgroup).parents)
    return any(parent in before.cgroups and not os.path.ismount(parent) for parent in parents)


def _processes() -> list[str]:
    """Processes of a daemon: its own by their titles, a container's by its cgroup."""
    found = []
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            title = Path(entry.path, "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            groups = Path(entry.path, "cgroup").read_text()
        except OSError:
            continue
        if "wharfd" in title or f"/{CGROUP_PARENT}/" in groups or any(mark in title for mark in MARKS):
            found.append(f"{entry.name} {title.strip()}")
    return found


def _network_namespaces() -> list[str]:
    """Namespaces that some process is in."""
    found = set()
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                found.add(os.readlink(f"{entry.path}/ns/net"))
            except OSError:
                continue
    return sorted(found)
