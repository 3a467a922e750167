"""state, list, ps, events: what a container is and does."""

from __future__ import annotations

import argparse
import json
import os
import select
import subprocess
import sys
import time

import msgspec

from services.containerd_shim.runtime.command.store import Store, Stored
from services.containerd_shim.runtime.container import Container
from services.containerd_shim.runtime.planning import OCI_VERSION
from services.protocol import metrics
from services.protocol.errors import Conflict, InvalidParameter


def _describe(stored: Stored) -> dict[str, object]:
    record = stored.record
    status = stored.status()
    return {
        "ociVersion": OCI_VERSION,
        "id": record.container.id,
        "pid": 0 if status == "stopped" else record.container.pid,
        "status": status,
        "bundle": record.container.bundle,
        "rootfs": record.rootfs,
        "created": record.created,
        "annotations": record.spec.annotations,
        "owner": record.owner,
    }


def state(store: Store, arguments: argparse.Namespace) -> int:
    print(json.dumps(_describe(store.get(arguments.id)), indent=2))
    return 0


def list_containers(store: Store, arguments: argparse.Namespace) -> int:
    described = [_describe(stored) for stored in store.all()]
    if arguments.quiet:
        print("\n".join(str(entry["id"]) for entry in described), end="\n" if described else "")
    elif arguments.format == "json":
        print(json.dumps(described))
    else:
        columns = ("id", "pid", "status", "bundle", "created", "owner")
        rows = [[column.upper() for column in columns]]
        rows += [[str(entry[column]) for column in columns] for entry in described]
        _print_table(rows)
    return 0


def _print_table(rows: list[list[str]]) -> None:
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    for row in rows:
        print("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def processes(store: Store, arguments: argparse.Namespace) -> int:
    """The container's lines of ps(1), or its pids as JSON."""
    pids = store.get(arguments.id).load().pids()
    if arguments.format == "json":
        print(json.dumps(pids))
        return 0
    command = ["ps", *(arguments.args or ["-ef"])]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    titles = lines[0].split()
    if "PID" not in titles:
        raise InvalidParameter("couldn't find PID field in ps output")
    column = titles.index("PID")
    print(lines[0])
    for line in lines[1:]:
        if int(line.split()[column]) in pids:
            print(line)
    return 0


def events(store: Store, arguments: argparse.Namespace) -> int:
    """Counters every ``--interval`` seconds and OOM events as JSON lines, until the container ends."""
    stored = store.get(arguments.id)
    if stored.status() == "stopped":
        raise Conflict(f"container with id {arguments.id} is not running")
    container = stored.load()
    if arguments.stats:
        _emit(arguments.id, "stats", _document(container))
        return 0
    oom = container.oom_event_fd()
    exited = os.pidfd_open(container.pid)
    next_stats = time.monotonic() + arguments.interval
    while True:
        watched = [exited] if oom is None else [exited, oom]
        readable = select.select(watched, [], [], max(0.0, next_stats - time.monotonic()))[0]
        if exited in readable:
            return 0
        if oom in readable:
            assert oom is not None
            os.read(oom, 4096)
            _emit(arguments.id, "oom", None)
        if time.monotonic() >= next_stats:
            _emit(arguments.id, "stats", _document(container))
            next_stats = time.monotonic() + arguments.interval


def _emit(container_id: str, kind: str, data: object) -> None:
    event: dict[str, object] = {"type": kind, "id": container_id}
    if data is not None:
        event["data"] = data
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


def _document(container: Container) -> dict[str, object]:
    """The counters under the names of ``runc events``."""
    counters = metrics.decode(container.stats())
    cpu, memory = counters.cpu, counters.memory
    return {
        "cpu": {
            "usage": {"total": cpu.total, "percpu": cpu.per_cpu, "kernel": cpu.kernel, "user": cpu.user},
            "throttling": {
                "periods": cpu.periods,
                "throttledPeriods": cpu.throttled_periods,
                "throttledTime": cpu.throttled_time,
            },
        },
        "memory": {
            "usage": {
                "limit": memory.limit,
                "usage": memory.usage,
                "max": memory.max_usage,
                "failcnt": memory.failcnt,
            },
            "raw": memory.stats,
        },
        "pids": {
            "current": counters.pids.current,
            "limit": 0 if counters.pids.limit == metrics.UNLIMITED else counters.pids.limit,
        },
        "blkio": {
            "ioServiceBytesRecursive": msgspec.to_builtins(counters.blkio.service_bytes),
            "ioServicedRecursive": msgspec.to_builtins(counters.blkio.serviced),
        },
    }
