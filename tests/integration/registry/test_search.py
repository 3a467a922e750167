"""``docker search``: indexes, filters, limits, credentials, and what is said where there is no index."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from reexec.distribution.model import Credentials
from services.engine.registry import endpoints, search
from services.protocol.errors import InvalidParameter, SystemError_
from tests.integration.registry.conftest import NOBODY, place
from tests.integration.registry.forward import ForwardProxy
from tests.integration.registry.index import Index
from tests.integration.registry.servers import make_certificate


@pytest.fixture
def index() -> Iterator[Index]:
    made = Index()
    try:
        yield made
    finally:
        made.close()


def find(
    root: Path,
    term: str,
    limit: int = 0,
    filters: Mapping[str, Sequence[str]] | None = None,
    credentials: Credentials = NOBODY,
) -> list[dict[str, Any]]:
    async def body() -> list[dict[str, Any]]:
        async with place(root) as made:
            found = await search.search(made.registry, term, limit, filters or {}, credentials)
            results: list[dict[str, Any]] = json.loads(found)
            return results

    return asyncio.run(body())


def names(found: list[dict[str, Any]]) -> list[str]:
    return [result["name"] for result in found]


def test_results_as_the_index_has_them(index: Index, tmp_path: Path) -> None:
    found = find(tmp_path, f"{index.host}/team/busy box")
    assert found[0] == {
        "star_count": 3000, "is_official": True, "name": "busybox", "is_automated": False,
        "description": "Small.",
    }  # fmt: skip
    assert names(found) == ["busybox", "me/busybox", "it/busybox"]
    assert not any(result["is_automated"] for result in found)
    assert index.queries == [{"q": ["team/busy box"], "n": ["25"]}]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"is-official": ["true"]}, ["busybox"]),
        ({"is-official": ["false"]}, ["me/busybox", "it/busybox"]),
        ({"stars": ["5"]}, ["busybox", "me/busybox"]),
        ({"stars": ["5", "100"]}, ["busybox"]),
        ({"is-automated": ["false"], "stars": ["0"]}, ["busybox", "me/busybox", "it/busybox"]),
        ({"is-automated": ["true"]}, []),
    ],
)
def test_filters(index: Index, tmp_path: Path, filters: dict[str, list[str]], expected: list[str]) -> None:
    assert names(find(tmp_path, f"{index.host}/busybox", 100, filters)) == expected


@pytest.mark.parametrize(
    ("term", "limit", "filters", "text"),
    [
        ("x", 101, {}, "limit 101 is outside the range of [1, 100]"),
        ("x", 0, {"name": ["x"]}, "invalid filter 'name'"),
        ("x", 0, {"stars": ["a"]}, "invalid filter 'stars=a': strconv.Atoi: parsing \"a\": invalid syntax"),
        ("x", 0, {"is-official": ["maybe"]}, "invalid filter 'is-official=[maybe]'"),
        ("h://x", 0, {}, "invalid repository name: repository name (h://x) should not have a scheme"),
    ],
)  # fmt: skip
def test_what_is_refused(tmp_path: Path, term: str, limit: int, filters: Any, text: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        find(tmp_path, term, limit, filters)
    assert str(caught.value) == text


def test_credentials(index: Index, tmp_path: Path) -> None:
    find(tmp_path / "a", f"{index.host}/x", credentials=Credentials("me", "secret"))
    find(tmp_path / "b", f"{index.host}/x", credentials=Credentials("me", identity_token="long"))
    assert index.authorizations == ["Basic bWU6c2VjcmV0", "Bearer t"]


def test_no_index(index: Index, tmp_path: Path) -> None:
    with pytest.raises(InvalidParameter) as caught:
        find(tmp_path / "a", "127.0.0.1:1/x")
    refused = "dial tcp 127.0.0.1:1: connect: connection refused"
    assert str(caught.value) == (
        'invalid registry endpoint "http://127.0.0.1:1/v1/". HTTPS attempt: '
        f'Get "https://127.0.0.1:1/v1/_ping": {refused}. HTTP attempt: '
        f'Get "http://127.0.0.1:1/v1/_ping": {refused}'
    )
    index.status = 503
    with pytest.raises(SystemError_, match="^unexpected status code 503$"):
        find(tmp_path / "b", f"{index.host}/x")
    index.status, index.body = 200, b"<html>"
    with pytest.raises(SystemError_, match="^error decoding registry search results: "):
        find(tmp_path / "c", f"{index.host}/x")


def test_dockers_own_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By HTTPS, through a proxy that stands for the world; ``library/`` is left out."""
    (tmp_path / "docker.io").mkdir()
    make_certificate(tmp_path, names="DNS:index.docker.io")
    (tmp_path / "docker.io" / "ca.crt").write_bytes((tmp_path / "tls.crt").read_bytes())
    monkeypatch.setattr(endpoints, "_CERTIFICATES", tmp_path)
    index, proxy = Index(tmp_path), ForwardProxy()
    try:
        proxy.routes["index.docker.io:443"] = index.port
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        assert names(find(tmp_path / "a", "library/busybox", 3))[0] == "busybox"
        assert index.queries == [{"q": ["busybox"], "n": ["3"]}]
    finally:
        proxy.close()
        index.close()
