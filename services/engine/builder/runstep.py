"""What a RUN step executes, and in which surroundings: shell or script, network, mounts."""

from __future__ import annotations

import contextlib
import posixpath
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from services.engine.builder import context
from services.engine.builder.cachemounts import CacheMounts
from services.engine.builder.refusals import refuse_flags
from services.engine.containers.model import ContainerMount, Entry, MountKind
from services.engine.containers.mount_modes import DEFAULT_PROPAGATION
from services.engine.dockerfile import heredocs, settings
from services.engine.dockerfile.heredocs import Heredoc
from services.engine.dockerfile.instructions import Instruction
from services.engine.dockerfile.target import Target
from services.engine.helpers import Helpers
from services.engine.layers import LayerManager
from services.protocol.api.containers import CreateRequest

#: Where a here-document with an interpreter of its own is found (buildkit's name for it).
_PIPES = "/dev/pipes"
_SCRIPT_MODE = 0o755


@dataclass
class RunPlan:
    """``command`` is executed and told; ``counted`` is what the cache has to know besides.

    ``told`` whether the command tells all that the step depends on: history then identifies it.
    """

    command: list[str]
    counted: list[str] = field(default_factory=list)
    network: str = ""
    mounts: list[ContainerMount] = field(default_factory=list)

    @property
    def told(self) -> bool:
        return not self.counted

    def prepare(self, request: CreateRequest) -> None:
        if self.network and request.host_config is not None:
            request.host_config.network_mode = self.network

    async def attach(self, entry: Entry) -> None:
        """Before the start: what is mounted is no part of the container's own configuration."""
        entry.definition.mounts = [*entry.definition.mounts, *self.mounts]

    async def detach(self, entry: Entry) -> None:
        """After the end, before the layer is made."""


@dataclass(frozen=True)
class Surroundings:
    """What a RUN step may ask for. ``chain`` finds the layers of a stage or an image."""

    helpers: Helpers
    layers: LayerManager
    caches: CacheMounts
    tmp: Path
    context: Path
    expand: Callable[[str], str]
    chain: Callable[[str], Awaitable[str]]


@contextlib.asynccontextmanager
async def planned(where: Surroundings, target: Target, step: Instruction) -> AsyncIterator[RunPlan]:
    """What *step* does on *target*; what was made for it is there until the end."""
    refuse_flags(step, "mount", "security")
    async with contextlib.AsyncExitStack() as stack:
        command, script = _command(target, step)
        plan = RunPlan(command, network=_network(step))
        if script is not None:
            place = await stack.enter_async_context(context.scratch(where.tmp))
            _write_script(place / _file_name(script), script.data)
            plan.counted.append(script.data)
            plan.mounts.append(_read_only(str(place), _PIPES))
        yield plan


def _network(step: Instruction) -> str:
    """ "" for that of the build."""
    wanted = step.flag("network")
    return "" if wanted == "default" else wanted


def _command(target: Target, step: Instruction) -> tuple[list[str], Heredoc | None]:
    """The command, and the here-document that is to be a program because it names its interpreter."""
    documents = step.node.heredocs
    if step.is_json or not documents:
        return settings.command_of(target, step), None
    (text,) = step.args
    if heredocs.of_word(text) is None:
        # Here-documents of commands: the shell takes them from the lines that follow.
        return [*target.shell(), "\n".join([text, *(one.following for one in documents)])], None
    (script,) = documents
    if script.data.startswith("#!"):
        return [*target.shell(), posixpath.join(_PIPES, _file_name(script))], script
    return [*target.shell(), script.data], None


def _file_name(script: Heredoc) -> str:
    name = posixpath.basename(script.name)
    return name if name not in ("", ".", "..") else "script"


def _write_script(path: Path, text: str) -> None:
    path.parent.chmod(0o755)
    path.write_text(text)
    path.chmod(_SCRIPT_MODE)


def _read_only(source: str, destination: str) -> ContainerMount:
    return ContainerMount(
        kind=MountKind.BIND,
        destination=destination,
        source=source,
        rw=False,
        propagation=DEFAULT_PROPAGATION,
    )
