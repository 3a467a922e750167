"""Where the files of a step come from: the context, an earlier stage, an image."""

from __future__ import annotations

import functools
import re

from services.engine.builder import copying
from services.engine.builder.output import BuildFailed
from services.engine.builder.tools import Tools
from services.protocol.errors import WharfError

#: Of a stage, as Go's ``strconv.ParseInt`` reads it.
_NUMBER = re.compile(r"[+-]?[0-9]{1,18}")


def origins(tools: Tools) -> copying.Origins:
    context = tools.context if tools.owners is not None else None
    return copying.Origins(context, tools.layers, functools.partial(_chain, tools))


async def _chain(tools: Tools, origin: str) -> str:
    """The layers of a stage (by name or number) or of an image, for ``--from`` and ``from=``; "" if it
    has none."""
    stage = await tools.stages.find(origin, tools.stage_index, by_number=True) if tools.stages else None
    if stage is None and _NUMBER.fullmatch(origin):
        where = "refers to current build stage" if int(origin) == tools.stage_index else "index out of bounds"
        raise BuildFailed(f"invalid from flag value {origin}: {where}")
    if stage is not None:
        chain = stage.chain_id
    else:
        try:
            chain = (await tools.bases.get(origin, tools.args.platform, tools.output)).chain_id
        except WharfError as error:
            raise BuildFailed(f"invalid from flag value {origin}: {error}") from error
    return chain


async def chain_to_mount(tools: Tools, origin: str) -> str:
    """As :func:`_chain`, of what has a file system."""
    chain = await _chain(tools, origin)
    if not chain:
        raise BuildFailed(f"invalid from flag value {origin}: it has no file system")
    return chain
