"""``docker cp`` and the start of the container it copies to, on layers of paper."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from unittest import mock

from reexec.archive.rootfs import RootSpec
from services.engine.containers import archive, start
from services.engine.containers.model import Status
from services.engine.rpc import Context
from services.protocol import oci
from services.protocol.verbs.containers import ArchivePutArgs
from tests.unit.lifecycle.fakes import World, run


async def _nothing() -> None:
    return None


def test_a_container_is_not_started_while_its_files_are_written(tmp_path: Path) -> None:
    """Its root is mounted for that, and must not be mounted twice at the same moment."""

    async def test() -> None:
        world = World(tmp_path)
        entry = await world.container()
        writing, written = asyncio.Event(), asyncio.Event()

        async def untar(*_: object) -> None:
            writing.set()
            await written.wait()

        async def body() -> list[int]:
            return [os.open("/dev/null", os.O_RDONLY)]

        layers = mock.Mock(wraps=world.layers, untar=untar, root=mock.Mock(return_value=RootSpec()))
        with (
            mock.patch.object(world.services, "layers", layers),
            mock.patch.object(start, "build_spec", return_value=oci.Spec()),
            mock.patch.object(start, "prepare_mounts", return_value=([], _nothing)),
        ):
            handlers = archive._Handlers(world.services)
            copying = asyncio.create_task(handlers.put(ArchivePutArgs("c", "/"), Context("r", 1, body)))
            await writing.wait()
            starting = asyncio.create_task(start.start(world.services, entry))
            await asyncio.sleep(0.01)
            assert entry.state.status is Status.CREATED and not world.shims.all
            written.set()
            await copying
            await starting
        assert entry.state.status is Status.RUNNING
        await world.close()

    run(test())
