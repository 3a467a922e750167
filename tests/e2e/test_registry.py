"""The docker command, a daemon and a registry: run from it, log in to it, die while pulling from it."""

from __future__ import annotations

import base64
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.engine import Engine
from tests.integration.registry.conftest import archive, layer
from tests.integration.registry.servers import BINARY, Fault, Proxy, Registry

pytestmark = pytest.mark.skipif(BINARY is None, reason="there is no docker-registry")
PASSWORD = "secret"


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    made = Registry(tmp_path, password=True)
    try:
        yield made
    finally:
        made.close()


def login(engine: Engine, host: str, config: Path) -> list[str]:
    """Arguments with which the docker command is logged in."""
    account = base64.b64encode(f"me:{PASSWORD}".encode()).decode()
    config.mkdir(exist_ok=True)
    (config / "config.json").write_text(json.dumps({"auths": {host: {"auth": account}}}))
    return ["--config", str(config)]


def test_run_what_was_pushed(engine: Engine, registry: Registry, tmp_path: Path) -> None:
    name = f"{registry.host}/busybox:1"
    engine.docker("tag", "busybox", name)
    refused = engine.docker("push", name, check=False)
    assert refused.returncode == 1
    assert refused.stderr.strip() == "no basic auth credentials"
    account = login(engine, registry.host, tmp_path / "docker")
    engine.docker(*account, "push", name)
    engine.docker("rmi", name, "busybox")
    done = engine.docker(*account, "run", "--rm", name, "echo", "pulled and run")
    assert done.stdout == "pulled and run\n"
    assert f"Status: Downloaded newer image for {name}" in done.stderr
    engine.docker("tag", name, "busybox")
    assert PASSWORD not in engine.log.read_text()
    assert base64.b64encode(f"me:{PASSWORD}".encode()).decode() not in engine.log.read_text()


def test_wrong_password(engine: Engine, registry: Registry, tmp_path: Path) -> None:
    config = ["--config", str(tmp_path / "none")]
    told = engine.docker(
        *config, "login", "-u", "me", "--password-stdin", registry.host, stdin="wrong", check=False
    )
    text = f"login attempt to http://{registry.host}/v2/ failed with status: 401 Unauthorized"
    assert text in told.stderr
    engine.docker(*config, "login", "-u", "me", "--password-stdin", registry.host, stdin=PASSWORD)


def test_engine_killed_in_a_pull(engine: Engine, registry: Registry, tmp_path: Path) -> None:
    """It leaves nothing, and the pull works afterwards."""
    name = f"{registry.host}/killed:1"
    account = login(engine, registry.host, tmp_path / "docker")
    engine.client.images.load(
        archive(name, layer({"a": os.urandom(1000)}), layer({"b": os.urandom(500_000)}))
    )
    engine.docker(*account, "push", name)
    engine.docker("rmi", name)
    blobs: set[str] = set()
    held, reached = threading.Event(), threading.Event()
    proxy = Proxy(registry)

    def hold(method: str, path: str) -> Fault | None:
        if method == "GET" and "/blobs/" in path:
            blobs.add(path)
            if len(blobs) == 3:  # the configuration, one layer, and the other, which is held back
                reached.set()
                held.wait(90)
        return None

    try:
        proxied = f"{proxy.host}/killed:1"
        account = login(engine, proxy.host, tmp_path / "docker")
        proxy.fault = hold
        client = engine.popen(*account, "pull", "-q", proxied)
        assert reached.wait(90)
        time.sleep(0.5)  # the lower layer is registered meanwhile, or not: both must be right
        engine.kill("engine")
        held.set()
        client.wait(180)
        engine.wait_ready()
        left = [path.name for path in (engine.data_root / "tmp").iterdir() if path.name.startswith("pull-")]
        assert not left or client.returncode == 0
        engine.docker(*account, "pull", "-q", proxied)
        engine.docker("rmi", proxied)
        assert not [p for p in (engine.data_root / "tmp").iterdir() if p.name.startswith("pull-")]
    finally:
        held.set()
        proxy.close()


def test_proxy_options(tmp_path: Path) -> None:
    """They are used, and shown without the password."""
    config = tmp_path / "daemon.json"
    config.write_text(json.dumps({"proxies": {"no-proxy": "example.org"}}))
    engine = Engine("--https-proxy", "http://me:hidden@127.0.0.1:1", "--config-file", str(config))
    try:
        engine.start()
        shown = engine.docker("info", "--format", "{{.HTTPProxy}} {{.HTTPSProxy}} {{.NoProxy}}").stdout
        assert shown == " http://xxxxx:xxxxx@127.0.0.1:1 example.org\n"
        pulled = engine.docker("pull", "192.0.2.10:5000/x", check=False)
        assert pulled.stderr == (
            'Error response from daemon: Get "https://192.0.2.10:5000/v2/": proxyconnect tcp: dial tcp '
            "127.0.0.1:1: connect: connection refused\n"
        )
        logs = [engine.log, *(engine.exec_root / "log").iterdir()]
        assert not any("hidden" in path.read_text() for path in logs)
    finally:
        engine.close()
