"""What a stage has come to: its image so far, and the configuration for the next one."""

from __future__ import annotations

import copy
from dataclasses import dataclass

from services.engine.dockerfile.target import Target
from services.engine.images.model import Record
from services.protocol.api.containers import Config

DEFAULT_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass
class StageState(Target):
    """``record`` None: nothing yet (``FROM scratch``)."""

    record: Record | None = None
    #: No more cache after the first step that was not in it.
    cache_missed: bool = False

    @property
    def image_id(self) -> str:
        return self.record.id if self.record else ""

    @property
    def chain_id(self) -> str:
        return self.record.chain_id if self.record else ""

    def begin(self, record: Record | None) -> None:
        self.record = record
        self.config = copy.deepcopy(record.container_config) if record else Config()
        self.author = record.config.author if record else ""
        if not any(item.startswith("PATH=") for item in self.config.env or []):
            self.config.env = [DEFAULT_PATH, *(self.config.env or [])]
