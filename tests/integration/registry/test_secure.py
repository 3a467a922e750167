"""TLS that is checked (``certs.d``), and the road through proxies. The registry seems to be elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.engine.registry import endpoints
from services.protocol.errors import InvalidParameter, WharfError
from tests.integration.registry.conftest import archive, place
from tests.integration.registry.forward import ForwardProxy
from tests.integration.registry.servers import ELSEWHERE, Registry, make_certificate
from tests.integration.registry.test_pull_push import BASE, ME, statuses

HOST = f"{ELSEWHERE}:5000"


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[ForwardProxy]:
    made = ForwardProxy("we:s3cret")
    for name in ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", made.url)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def certificates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``certs.d`` of the registry's host, empty."""
    monkeypatch.setattr(endpoints, "_CERTIFICATES", tmp_path / "certs.d")
    directory = tmp_path / "certs.d" / HOST
    directory.mkdir(parents=True)
    return directory


@pytest.fixture
def registry(tmp_path: Path, proxy: ForwardProxy, needs_registry: None) -> Iterator[Registry]:
    """Wants a password, and a client with a certificate."""
    (tmp_path / "registry").mkdir()
    make_certificate(tmp_path, "client", "DNS:client")
    made = Registry(tmp_path / "registry", password=True, tls=True, client_authority=tmp_path / "client.crt")
    proxy.routes[HOST] = made.port
    try:
        yield made
    finally:
        made.close()


def pull(root: Path) -> None:
    async def body() -> None:
        async with place(root) as made:
            await made.pull(f"{HOST}/x:1", ME)

    asyncio.run(body())


def test_authority_client_certificate_and_password(
    registry: Registry, proxy: ForwardProxy, certificates: Path, tmp_path: Path
) -> None:
    async def body() -> None:
        async with place(tmp_path / "a") as maker, place(tmp_path / "b") as taker:
            await maker.storage.load(archive(f"{HOST}/x:1", BASE))
            with pytest.raises(WharfError, match="x509: certificate signed by unknown authority$"):
                await maker.push(f"{HOST}/x:1", ME)
            (certificates / "ca.crt").write_bytes((tmp_path / "registry" / "tls.crt").read_bytes())
            with pytest.raises(WharfError, match="remote error: tls: "):
                await maker.push(f"{HOST}/x:1", ME)
            (certificates / "client.cert").write_bytes((tmp_path / "client.crt").read_bytes())
            (certificates / "client.key").write_bytes((tmp_path / "client.key").read_bytes())
            await maker.push(f"{HOST}/x:1", ME)
            lines = statuses(await taker.pull(f"{HOST}/x:1", ME))
            assert lines[-1] == f"Status: Downloaded newer image for {HOST}/x:1"
        assert set(proxy.seen) == {("CONNECT", HOST)}

    asyncio.run(body())


def test_half_a_pair(proxy: ForwardProxy, certificates: Path, tmp_path: Path) -> None:
    make_certificate(tmp_path, "client", "DNS:client")
    (certificates / "client.cert").write_bytes((tmp_path / "client.crt").read_bytes())
    text = "missing key client.key for client certificate client.cert. CA certificates must use the "
    with pytest.raises(InvalidParameter, match=f"^{text}extension .crt$"):
        pull(tmp_path / "a")
    (certificates / "client.cert").rename(certificates / "client.key")
    text = "missing client certificate client.cert for key client.key"
    with pytest.raises(InvalidParameter, match=f"^{text}$"):
        pull(tmp_path / "b")


def test_proxies_that_do_not_help(
    proxy: ForwardProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(WharfError) as caught:
        pull(tmp_path / "a")  # there is no route
    assert str(caught.value) == f'Get "https://{HOST}/v2/": Forbidden'
    proxy.account = "others:only"
    with pytest.raises(WharfError) as caught:
        pull(tmp_path / "b")
    assert str(caught.value) == f'Get "https://{HOST}/v2/": Proxy Authentication Required'
    monkeypatch.setenv("HTTPS_PROXY", "http://me:hidden@127.0.0.1:1")
    with pytest.raises(WharfError) as caught:
        pull(tmp_path / "c")
    assert str(caught.value) == (
        f'Get "https://{HOST}/v2/": proxyconnect tcp: dial tcp 127.0.0.1:1: connect: connection refused'
    )
    monkeypatch.setenv("HTTPS_PROXY", "socks5://me:hidden@127.0.0.1:1")
    with pytest.raises(InvalidParameter) as refused:
        pull(tmp_path / "d")
    assert str(refused.value) == "SOCKS proxies are not implemented: socks5://xxxxx:xxxxx@127.0.0.1:1"


def test_loopback_and_the_excepted_have_no_proxy(
    proxy: ForwardProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body() -> None:
        async with place(tmp_path / "a") as made:
            with pytest.raises(WharfError, match="dial tcp 127.0.0.1:1: connect: connection refused$"):
                await made.pull("127.0.0.1:1/x:1")

    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    asyncio.run(body())
    assert proxy.seen == []
