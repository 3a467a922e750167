"""OCI platforms in query parameters."""

from __future__ import annotations

import pytest

from services.apiserver import platforms
from services.protocol.errors import InvalidParameter

ARM = '{"os": "linux", "architecture": "arm", "variant": "v7"}'


def test_platforms() -> None:
    assert platforms.decode("") == ""
    assert platforms.decode(ARM) == "linux/arm/v7"
    assert platforms.only([], (1, 50)) == ""
    assert platforms.only([ARM], (1, 50)) == "linux/arm/v7"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("linux/arm", "failed to parse platform: invalid character 'l' looking for beginning of value$"),
        ("{", "failed to parse platform: unexpected end of JSON input$"),
        ("[]", "failed to parse platform: json: cannot unmarshal array into Go value of type v1.Platform$"),
        ('{"os": 1}', "failed to parse platform: json: cannot unmarshal number into Go struct field Pl.*"),
        ("{}", "both OS and Architecture must be provided"),
        ('{"os": "linux"}', "both OS and Architecture must be provided"),
        ('{"variant": "v7"}', "optional platform fields provided, but OS and Architecture are missing"),
    ],
)
def test_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidParameter, match=f"^{message}"):
        platforms.decode(text)


def test_several() -> None:
    with pytest.raises(InvalidParameter, match="in this API version; use API version 1.52 or later$"):
        platforms.only([ARM, ARM], (1, 51))
    with pytest.raises(InvalidParameter, match="^multiple platform parameters not supported$"):
        platforms.only([ARM, ARM], (1, 52))
