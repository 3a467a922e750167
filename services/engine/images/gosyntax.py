"""What Go's ``encoding/json`` says of a text that is no JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping

_LITERALS: Mapping[str, str] = {"n": "null", "t": "true", "f": "false"}
#: Python's words -> Go's.
_EXPECTED: Mapping[str, str] = {
    "Extra data": "after top-level value",
    "Expecting ':' delimiter": "after object key",
    "Expecting property name enclosed in double quotes": "looking for beginning of object key string",
}


def go_syntax_error(data: bytes) -> str:
    """Go's text for a document that is no JSON, as far as people compare it."""
    text = data.decode(errors="replace")
    try:
        json.loads(text)
    except RecursionError:
        return "exceeded max depth"
    except json.JSONDecodeError as error:
        at = error.pos
        if at >= len(text):
            return "unexpected end of JSON input"
        if (expected := _EXPECTED.get(error.msg)) is not None:
            return f"invalid character '{text[at]}' {expected}"
        literal = _LITERALS.get(text[at])
        if literal is None:
            return f"invalid character '{text[at]}' looking for beginning of value"
        for offset, (wanted, got) in enumerate(zip(literal, text[at:], strict=False)):
            if wanted != got and offset:
                return f"invalid character '{got}' in literal {literal} (expecting '{wanted}')"
        return "unexpected end of JSON input"
    return "invalid JSON"
