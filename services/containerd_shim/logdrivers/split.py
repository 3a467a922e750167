"""Output cut into lines and, where lines are too long, into pieces of lines."""

from __future__ import annotations

from services.containerd_shim.logdrivers.base import LINE_LIMIT


class LineSplitter:
    """One stream's output; keeps what came behind the last newline."""

    def __init__(self) -> None:
        #: The line that has begun and is not yet in the log.
        self.rest = b""

    def feed(self, data: bytes) -> list[tuple[bytes, bool]]:
        """Parts in order: (whole lines, True) or (a piece of LINE_LIMIT bytes, False)."""
        if self.rest:
            data = self.rest + data
        cut = data.rfind(b"\n") + 1
        parts = _cut_lines(data[:cut]) if cut else []
        rest = data[cut:] if cut else data
        while len(rest) >= LINE_LIMIT:
            parts.append((rest[:LINE_LIMIT], False))
            rest = rest[LINE_LIMIT:]
        self.rest = rest
        return parts

    def finish(self) -> bytes:
        """The end of the stream: the line without its newline, if there is one."""
        rest, self.rest = self.rest, b""
        return rest


def _cut_lines(lines: bytes) -> list[tuple[bytes, bool]]:
    """Whole *lines* as few parts as possible: looks at one newline per LINE_LIMIT bytes."""
    parts: list[tuple[bytes, bool]] = []
    begin = position = 0
    while len(lines) - position > LINE_LIMIT:
        newline = lines.rfind(b"\n", position, position + LINE_LIMIT)
        if newline >= 0:
            position = newline + 1
            continue
        if position > begin:
            parts.append((lines[begin:position], True))
        parts.append((lines[position : position + LINE_LIMIT], False))
        begin = position = position + LINE_LIMIT
    parts.append((lines[begin:] if begin else lines, True))
    return parts
