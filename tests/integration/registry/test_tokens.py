"""Tokens: what a registry behind a token server asks for, and what it is told."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest

from reexec.distribution.model import Credentials
from services.protocol.errors import NotFound, Unauthorized
from tests.harness.web import Request, WebServer
from tests.integration.registry.conftest import layer, place
from tests.integration.registry.servers import MANIFEST

ME, IMPOSTOR = Credentials("me", "secret"), Credentials("me", "wrong")
LAYER = layer({"file": b"content" * 100})


class TokenRegistry(WebServer):
    """One image, ``private/it:1``. Every token is good for so many uses, and for what it was asked for."""

    def __init__(self) -> None:
        self.uses = 1000
        self.scopes: list[list[str]] = []
        self.tokens: dict[str, tuple[list[str], int]] = {}
        config = json.dumps(
            {
                "architecture": "amd64",
                "os": "linux",
                "rootfs": {"type": "layers", "diff_ids": [self.digest(LAYER)]},
            }
        ).encode()
        self.blobs = {self.digest(data): data for data in (LAYER, config)}
        descriptors = [{"digest": digest, "size": len(data)} for digest, data in self.blobs.items()]
        self.manifest = json.dumps(
            {"schemaVersion": 2, "mediaType": MANIFEST, "config": descriptors[1], "layers": descriptors[:1]}
        ).encode()
        super().__init__()

    @staticmethod
    def digest(data: bytes) -> str:
        return "sha256:" + hashlib.sha256(data).hexdigest()

    def answer(self, request: Request) -> None:
        path, _, query = request.path.partition("?")
        if path == "/token":
            self._token(request, urllib.parse.parse_qs(query))
            return
        refusal = self._refusal(request.headers.get("Authorization", ""), path)
        if refusal is not None:
            challenge = f'Bearer realm="http://{self.host}/token",service="it"{refusal}'
            self._send(request, 401, b"", {"WWW-Authenticate": challenge})
        elif path == "/v2/":
            self._send(request, 200, b"{}", {})
        elif "/manifests/" in path:
            headers = {"Content-Type": MANIFEST, "Docker-Content-Digest": self.digest(self.manifest)}
            self._send(request, 200, self.manifest, headers)
        else:
            self._send(request, 200, self.blobs[path.rpartition("/")[2]], {})

    def _refusal(self, authorization: str, path: str) -> str | None:
        token = authorization.removeprefix("Bearer ")
        if token not in self.tokens:
            return ""
        scopes, uses = self.tokens[token]
        if not uses:
            return ',error="invalid_token"'
        self.tokens[token] = scopes, uses - 1
        if path != "/v2/" and "repository:private/it:pull" not in scopes:
            return ',error="insufficient_scope"'
        return None

    def _token(self, request: Request, query: dict[str, list[str]]) -> None:
        given = request.headers.get("Authorization", "")
        if given and base64.b64decode(given.removeprefix("Basic ")) != b"me:secret":
            error = {"errors": [{"code": "UNAUTHORIZED", "message": "incorrect username or password"}]}
            self._send(request, 401, json.dumps(error).encode(), {})
            return
        self.scopes.append(query.get("scope", []))
        token = f"t{len(self.tokens)}"
        # Nobody gets nothing, without being told so: the registry refuses.
        self.tokens[token] = (query.get("scope", []) if given else []), self.uses
        answer = {"token": token}
        if "offline_token" in query:
            answer["refresh_token"] = "for later"
        self._send(request, 200, json.dumps(answer).encode(), {})

    @staticmethod
    def _send(request: Request, status: int, body: bytes, headers: dict[str, str]) -> None:
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(body)


@pytest.fixture
def tokens() -> Iterator[TokenRegistry]:
    made = TokenRegistry()
    try:
        yield made
    finally:
        made.close()


def test_a_token_is_fetched_once_for_a_pull(tokens: TokenRegistry, tmp_path: Path) -> None:
    async def body() -> None:
        async with place(tmp_path / "a") as taker:
            await taker.pull(f"{tokens.host}/private/it:1", ME)
            assert tokens.scopes == [["repository:private/it:pull"]]

    asyncio.run(body())


def test_an_expired_token_is_fetched_again(tokens: TokenRegistry, tmp_path: Path) -> None:
    async def body() -> None:
        async with place(tmp_path / "a") as taker:
            tokens.uses = 2
            await taker.pull(f"{tokens.host}/private/it:1", ME)
            assert len(tokens.scopes) >= 2

    asyncio.run(body())


def test_denied_and_wrong_passwords(tokens: TokenRegistry, tmp_path: Path) -> None:
    async def body() -> None:
        async with place(tmp_path / "a") as taker:
            name = f"{tokens.host}/private/it"
            with pytest.raises(NotFound) as caught:
                await taker.pull(f"{name}:1")
            assert str(caught.value) == (
                f"pull access denied for {name}, repository does not exist or may require 'docker login': "
                "denied: requested access to the resource is denied"
            )
            with pytest.raises(Unauthorized, match="^unauthorized: incorrect username or password$"):
                await taker.pull(f"{name}:1", IMPOSTOR)

    asyncio.run(body())


def test_login_yields_an_identity_token(tokens: TokenRegistry, tmp_path: Path) -> None:
    async def body() -> None:
        async with place(tmp_path / "a") as taker:
            assert await taker.registry.login(tokens.host, ME) == "for later"
            with pytest.raises(Unauthorized, match="^unauthorized: incorrect username or password$"):
                await taker.registry.login(f"http://{tokens.host}", IMPOSTOR)

    asyncio.run(body())
