"""COPY and ADD on layers that are not there: what becomes of the new one."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from reexec.archive.rootfs import RootSpec
from services.engine.builder.copying import Copy, copy_into
from services.engine.builder.copyoptions import Options
from services.engine.layers import Layer

MADE = Layer("chain", "", "diff", "cache", 0)
COPY = Copy("COPY", RootSpec(), (), {}, "/", "/", True, Options())


class Layers:
    """Whose caller is cancelled while the layer that was worked in is removed."""

    def __init__(self) -> None:
        self.there: set[str] = set()
        self.task: asyncio.Task[None]

    async def create(self, layer: str, chain: str, options: dict[str, str]) -> None:
        self.there.add(layer)

    async def take(self, layer: str, newest: int | None) -> Layer:
        return MADE

    async def remove(self, layer: str) -> None:
        self.task.cancel()
        await asyncio.sleep(0.01)
        self.there.remove(layer)


def test_cancelled_at_the_end_the_layer_is_handed_over() -> None:
    layers = Layers()
    taken: list[Layer] = []

    async def step() -> None:
        taken.append(await copy_into(cast("Any", layers), cast("Any", None), COPY, [], ""))
        await asyncio.sleep(0)
        raise AssertionError("it goes on")

    async def work() -> None:
        layers.task = asyncio.create_task(step())
        with pytest.raises(asyncio.CancelledError):
            await layers.task
        assert taken == [MADE] and not layers.there

    asyncio.run(work())
