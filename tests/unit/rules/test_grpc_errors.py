"""Errors as they cross gRPC."""

from __future__ import annotations

import urllib.parse

import pytest

from services.protocol import grpc_errors
from services.protocol.errors import SystemError_

#: gRPC's soft limit on the size of trailers, in octets.
_SOFT_LIMIT = 8192


@pytest.mark.parametrize("letter", ["x", "%", "\u00e9", "\n", "\U0001f600"])
def test_a_text_of_any_length_fits_the_trailers(letter: str) -> None:
    _, details, trailers = grpc_errors.to_status(SystemError_("exec: " + letter * 100_000))
    size = len(urllib.parse.quote(details, safe=" /:.()")) + sum(len(k) + len(v) for k, v in trailers)
    assert details.startswith("exec: " + letter * 100) and size < _SOFT_LIMIT


def test_a_short_text_is_whole() -> None:
    assert grpc_errors.to_status(SystemError_("100 % \u00e9"))[1] == "100 % \u00e9"
