"""The output of a build: JSON lines, in the words of the classic builder.

Stages run at the same time, and what they say reads as if they had run one after the other: a stage
speaks into :class:`StageOutput`, which keeps its lines until it is the stage's turn.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import IO

from services.engine.builder.context import PREFIX
from services.protocol import jsonlines
from services.protocol.errors import WharfError

#: Lines that wait for a slow client before the build waits with them.
_BACKLOG = 256
#: Bytes of a stage's output that are kept in memory; the rest is in a file without a name.
_IN_MEMORY = 256 << 10


def _spool(tmp: Path) -> IO[bytes]:
    """A file without a name; where the file system has none, it has that of a build's for a moment."""
    return tempfile.SpooledTemporaryFile(_IN_MEMORY, prefix=PREFIX, dir=str(tmp))


class BuildFailed(WharfError):
    """A step failed: the last line of the output, with the command's exit code where it has one."""

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


class Speech:
    """What a step may say."""

    async def line(self, line: bytes) -> None:
        raise NotImplementedError

    async def say(self, text: str) -> None:
        await self.line(jsonlines.line(stream=text))

    async def image(self, image_id: str) -> None:
        """A step's image, shortened."""
        await self.say(f" ---> {short(image_id)}\n")

    async def result(self, image_id: str, name: str = "") -> None:
        """What a stage has come to, for programs: the last one counts. *name* is that of the message."""
        named: dict[str, object] = {"id": name} if name else {}
        await self.line(jsonlines.line(**named, aux={"ID": image_id}))

    async def error(self, text: str) -> None:
        """What a command wrote to its standard error, in red as the classic builder has it."""
        await self.say(f"\x1b[91m{text}\x1b[0m")

    async def progress(self, line: bytes) -> None:
        """A line of a pull."""
        await self.line(line if line.endswith(b"\n") else line + b"\r\n")


class Output(Speech):
    """``quiet`` keeps back everything but the result, until the build fails."""

    def __init__(self, tmp: Path, *, quiet: bool) -> None:
        self._quiet = quiet
        self._kept = _spool(tmp)
        self._lines: asyncio.Queue[bytes | None] = asyncio.Queue(_BACKLOG)

    async def line(self, line: bytes) -> None:
        if self._quiet:
            self._kept.write(line)
        else:
            await self._lines.put(line)

    async def failed(self, error: WharfError) -> None:
        code = error.code if isinstance(error, BuildFailed) else 0
        self._kept.seek(0)
        for line in self._kept:
            await self._lines.put(line)
        await self._lines.put(jsonlines.error_line(str(error), code))

    async def close(self, quiet_result: str = "") -> None:
        """*quiet_result* is the image's id, when the build has got to its end."""
        self._kept.close()
        if self._quiet and quiet_result:
            await self._lines.put(jsonlines.line(stream=f"{quiet_result}\n"))
        await self._lines.put(None)

    def cut(self) -> None:
        """The end, for a build that is cancelled: nobody may be there to make room for it."""
        self._kept.close()
        if self._lines.full():
            self._lines.get_nowait()
        self._lines.put_nowait(None)

    async def lines(self) -> AsyncGenerator[bytes, None]:
        while (line := await self._lines.get()) is not None:
            yield line


class StageOutput(Speech):
    """A stage's output: kept until :meth:`go_live`, from then on passed to *output* as it comes."""

    def __init__(self, output: Output, tmp: Path) -> None:
        self._output = output
        self._kept = _spool(tmp)
        self._told = 0
        self._live = False

    async def line(self, line: bytes) -> None:
        if self._live:
            await self._output.line(line)
        else:
            self._kept.write(line)

    async def go_live(self) -> None:
        """What was kept, in order, although more of it may come meanwhile."""
        while True:
            end = self._kept.tell()
            self._kept.seek(self._told)
            line = self._kept.readline()
            self._told = self._kept.tell()
            self._kept.seek(end)
            if not line:
                break
            await self._output.line(line)
        self._live = True
        self._kept.close()

    def close(self) -> None:
        """Its turn will not come."""
        self._kept.close()


def short(image_id: str) -> str:
    return image_id.removeprefix("sha256:")[:12]
