"""What a RUN step executes, and in which surroundings: shell or script, network, mounts."""

from __future__ import annotations

import asyncio
import contextlib
import posixpath
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from reexec.helpers.buildstubs import Missing, Stubs
from services.engine.builder import context, mounts
from services.engine.builder.mounts import Surroundings
from services.engine.builder.refusals import refuse_flags
from services.engine.containers.model import ContainerMount, Entry, MountKind
from services.engine.containers.mount_modes import DEFAULT_PROPAGATION
from services.engine.dockerfile import heredocs, settings
from services.engine.dockerfile.heredocs import Heredoc
from services.engine.dockerfile.instructions import Instruction
from services.engine.dockerfile.target import Target
from services.engine.helpers import ask, document
from services.engine.scopes import shielded
from services.protocol.api.containers import CreateRequest

#: Where a here-document with an interpreter of its own is found (buildkit's name for it).
_PIPES = "/dev/pipes"
_SCRIPT_MODE = 0o755


@dataclass
class RunPlan:
    """``command`` is executed; ``counted`` is what the cache has to know besides.

    With nothing counted the command tells all that the step depends on, and history identifies it.
    """

    command: list[str]
    where: Surroundings
    stack: AsyncExitStack
    network: str = ""
    script: Heredoc | None = None
    mounts: list[mounts.Planned] = field(default_factory=list)
    stubs: list[Missing] = field(default_factory=list)

    @property
    def counted(self) -> list[str]:
        script = [self.script.data] if self.script else []
        network = [f"--network={self.network}"] if self.network else []
        return script + network + [mount.counted for mount in self.mounts]

    @property
    def told(self) -> bool:
        return not self.counted

    def prepare(self, request: CreateRequest) -> None:
        if self.network and request.host_config is not None:
            request.host_config.network_mode = self.network

    async def attach(self, entry: Entry) -> None:
        """Before the start. What is mounted is no part of the container's own configuration.

        Raises :class:`BuildFailed` for a secret that is required.
        """
        self.stack.push_async_callback(self._forget, entry, list(entry.definition.mounts))
        if self.script is not None:
            place = await self.stack.enter_async_context(context.scratch(self.where.tmp))
            await asyncio.to_thread(_write_script, place / _file_name(self.script), self.script.data)
            entry.definition.mounts.append(_read_only(str(place), _PIPES))
        # In one order everywhere: two steps never wait for each other's locked caches.
        made: dict[int, ContainerMount | None] = {}
        for at, planned in sorted(enumerate(self.mounts), key=lambda item: item[1].cache_key):
            made[at] = await mounts.make(self.where, planned, self.stack)
        found = [mount for at in sorted(made) if (mount := made[at]) is not None]
        entry.definition.mounts += found
        if found:
            look = Stubs(self.where.layers.root(entry.id), paths=[one.destination for one in found])
            self.stubs = await ask(self.where.helpers, document("docker-buildstubs", look), list[Missing])

    async def _forget(self, entry: Entry, own: list[ContainerMount]) -> None:
        """A container that stays is looked at, and started, without what was there for the step."""
        if entry.definition.mounts != own:
            entry.definition.mounts = own
            if self.where.registry.find(entry.id) is entry:
                await shielded(self.where.registry.save_definition(entry))

    async def detach(self, entry: Entry) -> None:
        """After the end, before the layer is made: mount points made for the step are no part of it."""
        if self.stubs:
            remove = Stubs(self.where.layers.root(entry.id), stubs=self.stubs)
            await self.where.helpers.run(document("docker-buildstubs", remove))


@contextlib.asynccontextmanager
async def planned(where: Surroundings, target: Target, step: Instruction) -> AsyncIterator[RunPlan]:
    """What *step* does on *target*; what :meth:`RunPlan.attach` makes is there until the end.

    Raises :class:`BuildFailed` and ``InvalidParameter``.
    """
    refuse_flags(step, "security")
    async with AsyncExitStack() as stack:
        command, script = _command(target, step)
        plan = RunPlan(command, where, stack, network=_network(step), script=script)
        for text in step.flags.get("mount", ()):
            plan.mounts.append(await mounts.plan(where, text, target.config.working_dir))
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
