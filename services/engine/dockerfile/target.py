"""What instructions change: a configuration, with what belongs to it while it is being made."""

from __future__ import annotations

from dataclasses import dataclass, field

from services.protocol.api.containers import Config

DEFAULT_SHELL = ["/bin/sh", "-c"]


@dataclass
class Target:
    """``cmd_set``: CMD was given here, so ENTRYPOINT leaves it alone."""

    config: Config = field(default_factory=Config)
    author: str = ""
    cmd_set: bool = False

    def environment(self) -> dict[str, str]:
        return dict(item.partition("=")[::2] for item in self.config.env or [])

    def shell(self) -> list[str]:
        return list(self.config.shell) if isinstance(self.config.shell, list) else list(DEFAULT_SHELL)
