"""Records as ``docker logs`` shows them: chosen, prefixed, framed."""

from __future__ import annotations

import struct

from services.containerd_shim.logdrivers.base import STDERR, STDOUT, Format, rfc3339_fixed
from services.protocol.shim import ReadLogs

_HEADER = struct.Struct(">BxxxI")


class Renderer:
    """Text of records -> bytes for the client. ``done`` once a record later than ``until`` came."""

    def __init__(self, format_: Format, request: ReadLogs) -> None:
        self._decode = format_.decode
        self._request = request
        self._since = rfc3339_fixed(request.since) if request.since > 0 else ""
        self._until = rfc3339_fixed(request.until) if request.until > 0 else ""
        self._streams = {STDOUT: request.stdout, STDERR: request.stderr}
        self.done = False

    def render(self, records: bytes) -> bytes:
        """*records* are whole lines of the file."""
        out: list[bytes] = []
        request, since, until = self._request, self._since, self._until
        for text in records.split(b"\n"):
            record = self._decode(text) if text else None
            if record is None or (since and record.time < since):
                continue
            if until and record.time > until:
                self.done = True
                break
            if not self._streams[record.stream]:
                continue
            line = record.line
            if request.details or request.timestamps:
                details = record.details + " " if request.details else ""
                time = record.time + " " if request.timestamps else ""
                line = f"{time}{details}".encode() + line
            if request.multiplexed:
                out.append(_HEADER.pack(record.stream, len(line)))
            out.append(line)
        return b"".join(out)
