"""References: Docker's defaults, familiar names and refusals."""

from __future__ import annotations

import pytest

from services.engine.images.references import parse, parse_repository
from services.protocol.errors import InvalidParameter

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "normalized", "familiar"),
    [
        ("busybox", "docker.io/library/busybox", "busybox"),
        ("busybox:1", "docker.io/library/busybox:1", "busybox:1"),
        ("library/busybox", "docker.io/library/busybox", "busybox"),
        ("docker.io/busybox:glibc", "docker.io/library/busybox:glibc", "busybox:glibc"),
        ("docker.io/library/busybox", "docker.io/library/busybox", "busybox"),
        ("index.docker.io/library/hello-world", "docker.io/library/hello-world", "hello-world"),
        ("made/too:2", "docker.io/made/too:2", "made/too:2"),
        ("localhost/x", "localhost/x", "localhost/x"),
        ("localhost:5000/x:y", "localhost:5000/x:y", "localhost:5000/x:y"),
        ("127.0.0.1:5000/dig:1", "127.0.0.1:5000/dig:1", "127.0.0.1:5000/dig:1"),
        ("[::1]:5000/x", "[::1]:5000/x", "[::1]:5000/x"),
        ("Host/x", "Host/x", "Host/x"),
        (f"busybox@{DIGEST}", f"docker.io/library/busybox@{DIGEST}", f"busybox@{DIGEST}"),
        (f"busybox:1@{DIGEST}", f"docker.io/library/busybox:1@{DIGEST}", f"busybox:1@{DIGEST}"),
        ("a__b/c-d.e_f", "docker.io/a__b/c-d.e_f", "a__b/c-d.e_f"),
    ],
)
def test_names(text: str, normalized: str, familiar: str) -> None:
    assert str(parse(text)) == normalized
    assert parse(text).familiar == familiar


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("UPPER", "invalid reference format: repository name (library/UPPER) must be lowercase"),
        ("Imp:BAD", "invalid reference format: repository name (library/Imp) must be lowercase"),
        ("Bad/NAME:1", "invalid reference format: repository name (NAME) must be lowercase"),
        ("Bad/Name", "invalid reference format: repository name (Name) must be lowercase"),
        ("busybox:la:test", "invalid reference format"),
        ("", "invalid reference format"),
        (":tag", "invalid reference format"),
        ("a b", "invalid reference format"),
        ("busybox:", "invalid reference format"),
        ("busybox@sha256:123", "invalid reference format"),
        ("-x", "invalid reference format"),
        ("x\n", "invalid reference format"),
        ("x:" + "t" * 129, "invalid reference format"),
        ("x@sha256:" + "a" * 63, "invalid checksum digest length"),
        ("x@md5:" + "a" * 32, "unsupported digest algorithm"),
        ("x/" + "y" * 255, "repository name must not be more than 255 characters"),
        (
            "a" * 64,
            f"invalid repository name ({'a' * 64}), cannot specify 64-byte hexadecimal strings",
        ),
    ],
)
def test_refusals(text: str, message: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        parse(text)
    assert str(caught.value) == message


def test_the_default_tag_is_added_only_where_nothing_is_said() -> None:
    assert parse("x").with_default_tag().familiar == "x:latest"
    assert parse("x:1").with_default_tag().familiar == "x:1"
    assert parse(f"x@{DIGEST}").with_default_tag().familiar == f"x@{DIGEST}"


def test_repository_and_tag_apart() -> None:
    assert parse_repository("x", "1").familiar == "x:1"
    assert parse_repository("x:0", "1").familiar == "x:1"
    assert parse_repository("x", "").familiar == "x:latest"
    with pytest.raises(InvalidParameter, match="invalid tag format"):
        parse_repository("x", "a b")
    with pytest.raises(InvalidParameter, match="cannot import digest reference"):
        parse_repository(f"x@{DIGEST}", "")
