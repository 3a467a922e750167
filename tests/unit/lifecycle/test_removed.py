"""Who waits for a container's lock while the container goes: it is not brought back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from services.engine.builder import running
from services.engine.containers.remove import remove
from services.engine.containers.rename import rename
from services.engine.containers.start import start
from services.engine.containers.streams import attach
from services.protocol.errors import Conflict
from services.protocol.verbs.containers import AttachArgs, RenameArgs
from tests.unit.lifecycle.fakes import World, run

REQUESTS: dict[str, Callable[[World], Coroutine[Any, Any, object]]] = {
    "start": lambda world: start(world.services, world.entry()),
    "attach": lambda world: attach(world.services, AttachArgs("c", stdout=True, stream=True)),
    "rename": lambda world: rename(world.services, RenameArgs("c", "other")),
    "build": lambda world: running.run(world.services, world.entry(), running.Speech(), ["true"]),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_what_is_gone_is_not_brought_back(tmp_path: Path, name: str) -> None:
    async def test() -> None:
        world = World(tmp_path)
        entry = await world.container()
        async with entry.runtime.lock:
            removal = asyncio.create_task(remove(world.services, entry))
            await asyncio.sleep(0)
            request = asyncio.create_task(REQUESTS[name](world))
            await asyncio.sleep(0)
        await removal
        with pytest.raises(Conflict, match="marked for removal"):
            await request
        assert not world.shims.all and not list(world.services.exec_root.shims.glob("*"))
        assert not any(map(world.services.registry.name_taken, ("c", "other")))
        await world.close()

    run(test())
