"""Builds by other clients than the docker command: docker-py, and docker-compose with both of its ways."""

from __future__ import annotations

import gzip
import io
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from tests.harness.builds import files, wait_nothing_left
from tests.harness.engine import Engine
from tests.harness.web import Page, Site

pytestmark = pytest.mark.timeout(400)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    site.close()


def lines(answer: object) -> str:
    return "".join(line.get("stream", "") for line in answer)  # type: ignore[attr-defined]


def test_docker_py_path(engine: Engine, tmp_path: Path) -> None:
    """A directory with ``.dockerignore``, a Dockerfile outside of it, and most options."""
    (tmp_path / "context").mkdir()
    for name, text in {
        "context/.dockerignore": "*.secret\n!kept.secret\n",
        "context/kept.secret": "k",
        "context/other.secret": "o",
        "Outside": "ARG BASE\nFROM ${BASE} AS first\nARG WHO\nCOPY . /c\n"
        "RUN ls -A /c; echo hello $WHO; cat /etc/hosts\nFROM first AS last\nRUN false\n",
    }.items():
        (tmp_path / name).write_text(text)
    image, answer = engine.client.images.build(
        path=str(tmp_path / "context"), dockerfile=str(tmp_path / "Outside"), tag="py:1", rm=True,
        buildargs={"BASE": "busybox", "WHO": "there"}, labels={"a": "b"}, target="first",
        extra_hosts={"known": "192.0.2.7"}, network_mode="none", shmsize=1 << 20, platform="linux/amd64",
        container_limits={"memory": 64 << 20, "cpushares": 512}, cache_from=["busybox"],
    )  # fmt: skip
    said = lines(answer)
    assert "kept.secret\nhello there\n" in said and "192.0.2.7\tknown" in said and "other.secret" not in said
    assert image.tags == ["py:1"] and image.labels == {"a": "b"}
    wait_nothing_left(engine)


def test_docker_py_file(engine: Engine) -> None:
    """A Dockerfile alone is the whole context."""
    dockerfile = io.BytesIO(b"FROM busybox\nCOPY . /c\nRUN ls -A /c | wc -l\n")
    _, answer = engine.client.images.build(fileobj=dockerfile, rm=True, nocache=True)
    assert "\n1\n" in lines(answer)


@pytest.mark.parametrize("encoding", [None, "gzip"])
def test_docker_py_custom_context(engine: Engine, encoding: str | None) -> None:
    context = files(deep__Own="FROM busybox\nCOPY f /f\nRUN cat /f\n", f="custom\n")
    data = gzip.compress(context) if encoding else context
    _, answer = engine.client.images.build(
        fileobj=io.BytesIO(data),
        custom_context=True,
        encoding=encoding,
        dockerfile="deep/Own",
        nocache=True,
        rm=True,
    )
    assert "custom\n" in lines(answer)


def test_docker_py_remote(engine: Engine, site: Site) -> None:
    site.pages["/c.tar.gz"] = Page(gzip.compress(files(Dockerfile="FROM busybox\nRUN echo remote\n")))
    _, answer = engine.client.images.build(path=f"{site.url}/c.tar.gz", nocache=True, rm=True)
    assert "remote\n" in lines(answer)


def test_docker_py_errors(engine: Engine) -> None:
    build = engine.client.images.build
    with pytest.raises(docker.errors.BuildError, match="returned a non-zero code: 7") as failed:
        build(fileobj=io.BytesIO(b"FROM busybox\nRUN echo last words; exit 7\n"), rm=True, forcerm=True)
    assert "last words" in lines(failed.value.build_log)
    with pytest.raises(docker.errors.APIError, match=r"unknown instruction: RUNN") as refused:
        build(fileobj=io.BytesIO(b"FROM busybox\nRUNN x\n"))
    assert refused.value.status_code == 400
    with pytest.raises(docker.errors.APIError, match="Cannot locate specified Dockerfile: nosuch"):
        build(fileobj=io.BytesIO(files(f="")), custom_context=True, dockerfile="nosuch")
    wait_nothing_left(engine)


COMPOSE = """\
version: "3.8"
services:
  web:
    image: composed/web
    build:
      context: ./web
      dockerfile: Dockerfile.web
      args: {GREETING: hello}
      target: run
      labels: {by: compose}
    environment: {WHO: world}
    command: sh -c "cat /greeting; echo $$WHO; ls /data"
    volumes: [data:/data]
    network_mode: none
  file:
    build: ./file
    network_mode: none
volumes: {data: {}}
"""
PROJECT = {
    "docker-compose.yml": COMPOSE,
    "web/Dockerfile.web": "FROM busybox AS base\nARG GREETING\nRUN echo $GREETING >/greeting\n"
    "FROM base AS run\nCOPY only /data/only\nVOLUME /data\nFROM base AS never\nRUN false\n",
    "web/only": "",
    "file/Dockerfile": "FROM busybox\nCMD echo from a file\n",
}


@pytest.mark.skipif(shutil.which("docker-compose") is None, reason="there is no docker-compose")
@pytest.mark.parametrize("through_docker", ["0", "1"])
def test_compose(engine: Engine, tmp_path: Path, through_docker: str) -> None:
    """``docker-compose`` builds by docker-py or by the docker command; then the project runs."""
    for name, text in PROJECT.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)

    def compose(*arguments: str) -> str:
        command = ["docker-compose", "--no-ansi", "-p", f"built{through_docker}", *arguments]
        environment = engine.environment | {"COMPOSE_DOCKER_CLI_BUILD": through_docker}
        for name in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"):
            environment.pop(name, None)  # docker-compose is a Python program of the system's
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    try:
        assert "Successfully tagged composed/web:latest" in compose("build", "--no-cache")
        shown = compose("up", "--no-color")
        assert "hello" in shown and "world" in shown and "only" in shown and "from a file" in shown
        assert engine.client.images.get("composed/web").labels == {"by": "compose"}
    finally:
        compose("down", "--volumes", "--rmi", "all")
    wait_nothing_left(engine)
    assert not engine.docker("volume", "ls", "-q").stdout
