"""Everything the containers' operations work with, in one place, made by the daemon.

``settings`` is replaced when the configuration is reloaded; everything else stays.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

from services.engine.containers.exec_table import ExecTable
from services.engine.containers.registry import Registry
from services.engine.contracts import ImageService, LayerService, NetworkService, VolumeService
from services.engine.events import Events
from services.engine.scopes import Background
from services.engine.shims import Shims
from services.protocol.paths import ExecRoot
from services.protocol.settings import Settings


@dataclass
class Services:
    settings: Settings
    data_root: Path
    exec_root: ExecRoot
    registry: Registry
    events: Events
    images: ImageService
    layers: LayerService
    networks: NetworkService
    volumes: VolumeService
    shims: Shims
    background: Background
    execs: ExecTable = field(init=False)
    #: Held by the one prune that may run.
    pruning: asyncio.Lock = field(default_factory=asyncio.Lock)
    #: Requests that go on, and whose containers no prune takes away.
    busy: set[str] = field(default_factory=set)

    #: The daemon ends, and its containers with it: none is started any more.
    stopping: bool = False

    def __post_init__(self) -> None:
        self.execs = ExecTable(self.exec_root)

    def container_dir(self, container_id: str) -> Path:
        """``<data-root>/containers/<id>``, mode 0700: log, hosts, hostname, resolv.conf, checkpoints."""
        return self.data_root / "containers" / container_id
