"""Output cut into lines, whatever the reads were."""

from __future__ import annotations

import random

import pytest

from services.containerd_shim.logdrivers.base import LINE_LIMIT
from services.containerd_shim.logdrivers.split import LineSplitter


def records(splitter: LineSplitter, chunks: list[bytes]) -> list[bytes]:
    """Every record, one by one, with the end of the stream."""
    found = []
    for chunk in chunks:
        for part, whole in splitter.feed(chunk):
            assert part.endswith(b"\n") == whole
            found += part.splitlines(keepends=True) if whole else [part]
    rest = splitter.finish()
    return found + ([rest] if rest else [])


def expected(data: bytes) -> list[bytes]:
    """As moby's copier cuts: a piece whenever LINE_LIMIT bytes from its beginning have no newline."""
    found = []
    while data:
        newline = data.find(b"\n", 0, LINE_LIMIT)
        cut = newline + 1 if newline >= 0 else min(LINE_LIMIT, len(data))
        found.append(data[:cut])
        data = data[cut:]
    return found


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"a\nb\nc",
        b"\n\n\n",
        b"x" * LINE_LIMIT,
        b"x" * LINE_LIMIT + b"\n",
        b"x" * (LINE_LIMIT - 1) + b"\n" + b"y\n",
        b"a\n" + b"x" * (3 * LINE_LIMIT + 5) + b"\nb\n",
        (b"l" * 100 + b"\n") * 1000 + b"x" * 40000 + b"\n" + b"s\n" * 20000,
    ],
)
@pytest.mark.parametrize("size", [1_000_000, 65536, 4096, 777])
def test_cut_like_docker(data: bytes, size: int) -> None:
    chunks = [data[begin : begin + size] for begin in range(0, len(data), size)]
    assert records(LineSplitter(), chunks) == expected(data)


def test_random_reads() -> None:
    chance = random.Random(4)
    for _ in range(50):
        data = b"".join(
            bytes([chance.randrange(97, 123)]) * chance.choice([0, 1, 7, 90, 17000, 33000]) + b"\n"
            for _ in range(chance.randrange(1, 60))
        )
        chunks, position = [], 0
        while position < len(data):
            size = chance.choice([1, 100, 5000, 70000, 256 * 1024])
            chunks.append(data[position : position + size])
            position += size
        assert records(LineSplitter(), chunks) == expected(data)
