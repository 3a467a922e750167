"""update: change the limits of a container."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

import msgspec

from services.containerd_shim.runtime.command.store import Store
from services.protocol import oci
from services.protocol.errors import Conflict, InvalidParameter

_SIZE = re.compile(r"(-?\d+)([kmgt]?)(i?b)?\Z", re.IGNORECASE)
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def size(text: str) -> int:
    """Bytes, with the units k, m, g, t; -1 is unlimited."""
    match = _SIZE.match(text)
    if match is None:
        raise argparse.ArgumentTypeError(f"invalid size: {text!r}")
    return int(match[1]) * _UNITS[match[2].lower()]


def update(store: Store, arguments: argparse.Namespace) -> int:
    with store.locked(arguments.id) as stored:
        if stored.status() == "stopped":
            raise Conflict("container is stopped")
        stored.load().update(_document(arguments))
    return 0


def _document(arguments: argparse.Namespace) -> oci.Resources:
    if arguments.resources:
        text = (
            sys.stdin.buffer.read() if arguments.resources == "-" else Path(arguments.resources).read_bytes()
        )
        try:
            return msgspec.json.decode(text, type=oci.Resources)
        except msgspec.MsgspecError as error:
            raise InvalidParameter(f"{arguments.resources}: {error}") from error
    cpu = oci.Cpu(
        shares=arguments.cpu_share,
        quota=arguments.cpu_quota,
        period=arguments.cpu_period,
        burst=arguments.cpu_burst,
        realtime_period=arguments.cpu_rt_period,
        realtime_runtime=arguments.cpu_rt_runtime,
        cpus=arguments.cpuset_cpus,
        mems=arguments.cpuset_mems,
        idle=arguments.cpu_idle,
    )
    memory = oci.Memory(
        limit=arguments.memory, reservation=arguments.memory_reservation, swap=arguments.memory_swap
    )
    return oci.Resources(
        cpu=cpu if cpu != oci.Cpu() else None,
        memory=memory if memory != oci.Memory() else None,
        pids=None if arguments.pids_limit is None else oci.Pids(limit=arguments.pids_limit),
        block_io=None if arguments.blkio_weight is None else oci.BlockIO(weight=arguments.blkio_weight),
    )
