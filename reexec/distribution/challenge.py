"""``WWW-Authenticate``: what a registry asks for (RFC 9110 section 11.6.1)."""

from __future__ import annotations

import re
from dataclasses import dataclass

_SCHEME = re.compile(r"\s*([A-Za-z][A-Za-z0-9._~+/-]*)(?:\s+|$)")
_PARAMETER = re.compile(r'\s*([A-Za-z0-9_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))\s*,?')


@dataclass(frozen=True)
class Challenge:
    """``scheme`` in lower case (``bearer``, ``basic``)."""

    scheme: str
    parameters: dict[str, str]


def parse(header: str) -> list[Challenge]:
    """All challenges of *header*; what is not understood ends it."""
    found: list[Challenge] = []
    at = 0
    while at < len(header):
        match = _SCHEME.match(header, at)
        if match is None:
            break
        at = match.end()
        parameters: dict[str, str] = {}
        while (pair := _PARAMETER.match(header, at)) is not None:
            value = pair[3] if pair[2] is None else re.sub(r"\\(.)", r"\1", pair[2])
            parameters[pair[1].lower()] = value
            at = pair.end()
        found.append(Challenge(match[1].lower(), parameters))
    return found
