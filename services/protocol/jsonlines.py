"""Documents as Go's ``encoding/json`` writes them by default, and streams of them (``jsonmessage``)."""

from __future__ import annotations

from typing import Any

import msgspec

#: What Go writes as escapes, for the sake of HTML; none of it is JSON's own.
_HTML = ((b"<", b"\\u003c"), (b">", b"\\u003e"), (b"&", b"\\u0026"))


def encode(value: Any) -> bytes:
    data = msgspec.json.encode(value)
    for character, escape in _HTML:
        if character in data:
            data = data.replace(character, escape)
    return data


def line(**members: Any) -> bytes:
    """One document of a stream."""
    return encode(members) + b"\r\n"


def error_line(message: str, code: int = 0) -> bytes:
    """The document that ends a stream with an error; *code* is a command's exit status, if it was one."""
    detail = {"code": code, "message": message} if code else {"message": message}
    return line(error=message, errorDetail=detail)


__all__ = ["encode", "error_line", "line"]
