"""Ids of containers and execs: 64 hexadecimal digits, whose first twelve stand for them."""

from __future__ import annotations

import secrets

SHORT = 12


def new_id() -> str:
    """Random; its short form is never a number, which could be taken for one (moby ``stringid``)."""
    while True:
        made = secrets.token_hex(32)
        if not made[:SHORT].isdigit():
            return made
