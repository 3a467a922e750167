"""The output of a build: JSON lines, in the words of the classic builder."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec

from services.protocol.errors import WharfError

#: Lines that wait for a slow client before the build waits with them.
_BACKLOG = 256


class BuildFailed(WharfError):
    """A step failed: the last line of the output, with the command's exit code where it has one."""

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


class Output:
    """``quiet`` keeps back everything but the result."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._lines: asyncio.Queue[bytes | None] = asyncio.Queue(_BACKLOG)

    async def say(self, text: str) -> None:
        if not self._quiet:
            await self._lines.put(_line({"stream": text}))

    async def image(self, image_id: str) -> None:
        """A step's image, shortened."""
        await self.say(f" ---> {short(image_id)}\n")

    async def error(self, text: str) -> None:
        """What a command wrote to its standard error, in red as the classic builder has it."""
        await self.say(f"\x1b[91m{text}\x1b[0m")

    async def progress(self, line: bytes) -> None:
        """A line of a pull."""
        if not self._quiet:
            await self._lines.put(line if line.endswith(b"\n") else line + b"\r\n")

    async def result(self, image_id: str) -> None:
        if self._quiet:
            await self._lines.put(_line({"stream": f"{image_id}\n"}))
            return
        await self._lines.put(_line({"aux": {"ID": image_id}}))
        await self.say(f"Successfully built {short(image_id)}\n")

    async def failed(self, error: WharfError) -> None:
        detail: dict[str, object] = {"message": str(error)}
        if isinstance(error, BuildFailed) and error.code:
            detail = {"code": error.code, **detail}
        await self._lines.put(_line({"errorDetail": detail, "error": str(error)}))

    async def close(self) -> None:
        await self._lines.put(None)

    async def lines(self) -> AsyncIterator[bytes]:
        while (line := await self._lines.get()) is not None:
            yield line


def short(image_id: str) -> str:
    return image_id.removeprefix("sha256:")[:12]


def _line(document: dict[str, object]) -> bytes:
    return msgspec.json.encode(document) + b"\r\n"
