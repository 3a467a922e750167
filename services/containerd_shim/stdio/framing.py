"""What is put around output: Docker's 8-byte header, HTTP chunks, or nothing."""

from __future__ import annotations

import struct

HEADER = struct.Struct(">BxxxI")


def header(stream: int, size: int) -> bytes:
    """Stream type (1 stdout, 2 stderr) and length of the frame that follows."""
    return HEADER.pack(stream, size)


def chunk_head(size: int) -> bytes:
    return b"%x\r\n" % size


CHUNK_TAIL = b"\r\n"
LAST_CHUNK = b"0\r\n\r\n"
