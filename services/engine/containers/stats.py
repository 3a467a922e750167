"""``docker stats``: Docker's document, made of the counters of the container's cgroup.

Each document has the sample before it as ``precpu_stats``, because the client shows a rate.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import msgspec

from services.engine.containers.model import Entry
from services.engine.containers.modes import joined_container
from services.engine.containers.services import Services
from services.engine.containers.stats_document import Counters, document, empty_document
from services.engine.containers.times import rfc3339
from services.engine.containers.transitions import has_task
from services.protocol import metrics
from services.protocol.errors import WharfError
from services.protocol.verbs.containers import StatsArgs

#: Seconds between two samples.
INTERVAL = 1.0
_encode = msgspec.json.encode


async def stats(services: Services, args: StatsArgs) -> AsyncGenerator[bytes, None]:
    """JSON documents, one a second, until the container is removed or the client goes."""
    entry = services.registry.get(args.ref)
    previous = None if args.one_shot else await _sample(services, entry)
    if not args.stream:
        if not args.one_shot and previous is not None:
            await asyncio.sleep(INTERVAL)
        yield _encode(_show(entry, await _sample(services, entry), previous)) + b"\n"
        return
    while services.registry.find(entry.id) is not None:
        await asyncio.sleep(INTERVAL)
        current = await _sample(services, entry)
        yield _encode(_show(entry, current, previous)) + b"\n"
        previous = current


async def _sample(services: Services, entry: Entry) -> Counters | None:
    """None when it does not run."""
    if not has_task(entry.state):
        return None
    try:
        answer = await services.shims.stats(entry.id)
    except WharfError:
        return None
    return Counters(
        metrics=metrics.decode(answer.metrics),
        read_at=answer.read_at or time.time_ns(),
        system=_host_cpu(),
        networks=_networks(entry),
    )


def _show(entry: Entry, current: Counters | None, previous: Counters | None) -> dict[str, Any]:
    name, container_id = "/" + entry.definition.name, entry.id
    if current is None:
        return empty_document(name, container_id)
    shown = document(current, previous)
    shown["name"], shown["id"] = name, container_id
    shown["read"] = rfc3339(current.read_at)
    shown["preread"] = rfc3339(previous.read_at if previous else 0)
    return shown


def _networks(entry: Entry) -> dict[str, dict[str, int]] | None:
    """Counters of the interfaces in the container's own network namespace (proc(5), net/dev)."""
    mode = entry.definition.host_config.network_mode
    if mode == "host" or joined_container(mode) is not None:
        return None
    try:
        text = Path(f"/proc/{entry.state.pid}/net/dev").read_text()
    except OSError:
        return None
    return interfaces(text)


def interfaces(text: str) -> dict[str, dict[str, int]]:
    """``/proc/net/dev`` but the loopback."""
    found = {}
    for line in text.splitlines()[2:]:
        name, _, values = line.partition(":")
        if (name := name.strip()) == "lo":
            continue
        numbers = [int(value) for value in values.split()]
        found[name] = {
            "rx_bytes": numbers[0],
            "rx_packets": numbers[1],
            "rx_errors": numbers[2],
            "rx_dropped": numbers[3],
            "tx_bytes": numbers[8],
            "tx_packets": numbers[9],
            "tx_errors": numbers[10],
            "tx_dropped": numbers[11],
        }
    return found


def _host_cpu() -> tuple[int, int]:
    return system_cpu(Path("/proc/stat").read_text())


def system_cpu(stat: str) -> tuple[int, int]:
    """(nanoseconds of CPU time of the host, CPUs online) from ``/proc/stat``.

    Seven columns, as Docker sums them: guest times are in user time already. A tick is 10 ms.
    """
    total, online = 0, 0
    for line in stat.splitlines():
        fields = line.split()
        if fields[0] == "cpu":
            total = sum(int(value) for value in fields[1:8]) * 10_000_000
        elif fields[0].startswith("cpu"):
            online += 1
        else:
            break
    return total, online
