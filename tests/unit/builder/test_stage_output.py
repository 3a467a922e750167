"""What a stage says before its turn comes."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from services.engine.builder.output import BuildFailed, Output, StageOutput


async def _collect(output: Output) -> list[str]:
    return [json.loads(line)["stream"] for line in [line async for line in output.lines()]]


def test_lines_are_kept_until_the_turn_and_then_passed_on(tmp_path: Path) -> None:
    async def main() -> list[str]:
        output = Output(tmp_path, quiet=False)
        first, second = (StageOutput(output, tmp_path) for _ in range(2))
        reader = asyncio.create_task(_collect(output))
        for number in range(3):
            await second.say(f"second {number}")
            await first.say(f"first {number}")
        await first.go_live()
        await first.say("first live")
        await second.go_live()
        await second.say("second live")
        await output.close()
        return await reader

    assert asyncio.run(main()) == [
        "first 0", "first 1", "first 2", "first live", "second 0", "second 1", "second 2", "second live",
    ]  # fmt: skip


def test_what_is_said_while_the_kept_is_told_comes_after_it(tmp_path: Path) -> None:
    """The stage speaks faster than its client reads, and more than is kept in memory."""

    async def main() -> list[str]:
        output, total = Output(tmp_path, quiet=False), 2000
        stage = StageOutput(output, tmp_path)

        async def speak() -> None:
            for number in range(total):
                await stage.say(f"{number} " + "x" * 400)
                if number % 100 == 0:
                    await asyncio.sleep(0)

        speaker = asyncio.create_task(speak())
        await asyncio.sleep(0)
        reader = asyncio.create_task(_collect(output))
        await stage.go_live()
        await speaker
        await output.close()
        return [line.split()[0] for line in await reader]

    assert asyncio.run(main()) == [str(number) for number in range(2000)]


def test_the_end_is_said_although_nobody_reads(tmp_path: Path) -> None:
    async def main() -> None:
        output = Output(tmp_path, quiet=False)
        for number in range(256):
            await output.say(str(number))
        output.cut()
        assert len([line async for line in output.lines()]) == 255

    asyncio.run(main())


@pytest.mark.parametrize("fails", [True, False])
def test_a_quiet_build_says_what_it_did_only_when_it_fails(tmp_path: Path, fails: bool) -> None:
    async def main() -> list[bytes]:
        output = Output(tmp_path, quiet=True)
        await output.say("one\n")
        if fails:
            await output.failed(BuildFailed("broken", 3))
        else:
            await output.result("sha256:1")
        await output.close("" if fails else "sha256:1")
        return [line async for line in output.lines()]

    said = [b'{"stream":"one\\n"}\r\n', b'{"error":"broken","errorDetail":{"code":3,"message":"broken"}}\r\n']
    assert asyncio.run(main()) == (said if fails else [b'{"stream":"sha256:1\\n"}\r\n'])
