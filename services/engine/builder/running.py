"""A RUN step: a container of the image so far, its output told as it comes, its exit code."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import closing

import msgspec

from services.engine.builder.output import BuildFailed, Speech, short
from services.engine.containers import transitions
from services.engine.containers.announce import announce
from services.engine.containers.create import create
from services.engine.containers.model import Entry
from services.engine.containers.prepared import ensure_streams
from services.engine.containers.remove import remove
from services.engine.containers.services import Services
from services.engine.containers.start import start
from services.engine.containers.wait import until_exit
from services.engine.rpc import Context
from services.engine.scopes import shielded
from services.protocol import fdpass
from services.protocol.api.containers import CreateRequest, HostConfig, LogConfig
from services.protocol.errors import WharfError, from_failure
from services.protocol.release import API_VERSION
from services.protocol.shim import Attach
from services.protocol.verbs.builder import BuildArgs
from services.protocol.verbs.containers import CreateArgs

_HEADER = struct.Struct(">B3xI")
_STDERR = 2
#: Of the requests that a build makes in its own name.
_PREFIX = "build:"


async def _no_descriptors() -> list[int]:
    return []


def host_config(args: BuildArgs) -> HostConfig:
    return HostConfig(
        network_mode=args.network_mode or "default",
        extra_hosts=args.extra_hosts or None,
        memory=args.memory,
        memory_swap=args.memory_swap,
        cpu_shares=args.cpu_shares,
        cpu_period=args.cpu_period,
        cpu_quota=args.cpu_quota,
        cpuset_cpus=args.cpuset_cpus,
        cpuset_mems=args.cpuset_mems,
        shm_size=args.shm_size,
        ulimits=args.ulimits or None,
        cgroup_parent=args.cgroup_parent,
        # Whatever the daemon's default is: the build's output is what it says.
        log_config=LogConfig(type_="none"),
    )


@contextlib.contextmanager
def building(services: Services, build_id: str) -> Iterator[None]:
    """Containers of the build are not pruned, whatever state they are in."""
    services.busy.add(_PREFIX + build_id)
    try:
        yield
    finally:
        services.busy.discard(_PREFIX + build_id)


def belongs_to(entry: Entry, build_id: str) -> bool:
    return entry.definition.request_id == _PREFIX + build_id


async def make_container(services: Services, request: CreateRequest, build_id: str, output: Speech) -> Entry:
    """A container that is known to belong to the build, also after a crash."""
    context = Context(_PREFIX + build_id, 1, _no_descriptors)
    reply = await create(services, CreateArgs("", request, api_version=API_VERSION), context)
    entry = services.registry.find(reply.id)
    if entry is None:
        raise BuildFailed(f"container {reply.id} was removed while it was built with")
    try:
        await warn(output, reply.warnings)
        await output.say(f" ---> Running in {short(entry.id)}\n")
    except asyncio.CancelledError:
        await abandon(services, entry)
        raise
    return entry


async def warn(output: Speech, warnings: Sequence[str]) -> None:
    """Of what was asked for a container, and this host does not have."""
    for text in warnings:
        await output.say(f" ---> [Warning] {text}\n")


async def run(services: Services, entry: Entry, output: Speech, command: Sequence[str]) -> None:
    """Raises :class:`BuildFailed` for another exit code than 0."""
    ours, theirs = socket.socketpair()
    with closing(ours):
        with closing(theirs):
            async with entry.runtime.lock:
                transitions.check_attach(entry.state, short(entry.id))
                await ensure_streams(services, entry)
            path = services.exec_root.shim_socket(entry.id)
            # A thread goes on although the build is cancelled, so it has a descriptor of its own.
            await asyncio.to_thread(_hand_over, path, theirs.dup())
            announce(services, entry, "attach")
        ours.setblocking(False)
        await start(services, entry)
        await _tell(ours, output)
        await until_exit(services, entry)
    code = entry.state.exit_code
    if code:
        raise BuildFailed(f"The command '{' '.join(command)}' returned a non-zero code: {code}", code)


def _hand_over(path: os.PathLike[str], client: socket.socket) -> None:
    """Closes *client*."""
    attach = Attach(stdout=True, stderr=True)
    envelope = fdpass.HandoverEnvelope(payload=msgspec.msgpack.encode(attach))
    with client, fdpass.connect(str(path)) as connection:
        fdpass.send(connection, envelope, [client.fileno()])
        client.close()
        acknowledgement, passed = fdpass.receive(connection, fdpass.HandoverAck)
    for one in passed:
        os.close(one)
    if acknowledgement.failure is not None:
        raise from_failure(acknowledgement.failure)


async def _tell(ours: socket.socket, output: Speech) -> None:
    """Frames of the shim (8-byte header) until it closes the connection."""
    loop = asyncio.get_running_loop()
    decoders = {kind: codecs.getincrementaldecoder("utf-8")("replace") for kind in (1, _STDERR)}
    data = b""
    while chunk := await loop.sock_recv(ours, 1 << 16):
        data += chunk
        while len(data) >= _HEADER.size:
            kind, size = _HEADER.unpack_from(data)
            if len(data) < _HEADER.size + size:
                break
            text = decoders[kind].decode(data[_HEADER.size : _HEADER.size + size])
            data = data[_HEADER.size + size :]
            await (output.error(text) if kind == _STDERR else output.say(text))


async def abandon(services: Services, entry: Entry) -> None:
    """The build was cancelled: its container is killed and removed whatever else happens."""
    with contextlib.suppress(WharfError):
        await shielded(remove(services, entry, force=True, volumes=True))


class Removals:
    """Of the containers of a stage's finished steps, while the stage goes on."""

    def __init__(self, services: Services, output: Speech) -> None:
        self._services = services
        self._output = output
        self._tasks: list[tuple[Entry, asyncio.Task[None]]] = []

    async def begin(self, entry: Entry) -> None:
        """Says that it is done; :meth:`finish` takes that back where it was not."""
        removal = remove(self._services, entry, force=True, volumes=True)
        task = self._services.background.spawn(removal, name=f"remove {entry.id}", awaited=True)
        self._tasks.append((entry, task))
        await self._output.say(f" ---> Removed intermediate container {short(entry.id)}\n")

    async def finish(self) -> None:
        """Wait for all, also when the build is cancelled."""
        tasks, self._tasks = self._tasks, []
        ended = await shielded(asyncio.gather(*(task for _, task in tasks), return_exceptions=True))
        for (entry, _), error in zip(tasks, ended, strict=True):
            if isinstance(error, WharfError):
                await self._output.say(_not_removed(entry, error))


def _not_removed(entry: Entry, error: WharfError) -> str:
    return f"Error removing intermediate container {short(entry.id)}: {error}\n"


async def drop(services: Services, entry: Entry, output: Speech) -> None:
    """Remove a step's container, and say so."""
    try:
        await remove(services, entry, force=True, volumes=True)
    except WharfError as error:
        await output.say(_not_removed(entry, error))
        return
    await output.say(f" ---> Removed intermediate container {short(entry.id)}\n")
