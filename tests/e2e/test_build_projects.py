"""Dockerfiles of well-known projects' shapes (``projects/``): built from Debian packages, and run.

What they are ``FROM`` (``debian:stable-slim``, ``gcc``, ``golang``, ``python``, ``node``) is made here, by
debootstrap and by builds that install packages of the host's release. No build has or needs a network.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.harness import debian
from tests.harness.engine import Engine
from tests.harness.readiness import wait_until

pytestmark = [pytest.mark.usefixtures("docker_command", "toolchains"), pytest.mark.timeout(1800)]

PROJECTS = Path(__file__).parent / "projects"
TOOLCHAINS = {
    "gcc": ("gcc", "g++", "make", "cmake", "libc6-dev"),
    "golang": ("golang-go",),
    "python": ("python3-venv", "python3-wheel-whl"),
    "node": ("nodejs",),
}
INSTALL = """\
FROM debian:stable-slim
ENV DEBIAN_FRONTEND=noninteractive
RUN --mount=type=bind,target=/pool --network=none \\
    apt-get install -y -qq --no-install-recommends /pool/*.deb >/tmp/log 2>&1 || { cat /tmp/log; exit 1; }
"""

Build = Callable[..., str]


@pytest.fixture(scope="module")
def toolchains(engine: Engine, debian_directory: Path) -> None:
    """One image per language, two made at a time."""
    engine.docker("import", str(debian.base(debian_directory)), "debian:stable-slim")

    def make(name: str) -> None:
        context = debian.pool(debian_directory, name, *TOOLCHAINS[name])
        (context / "Dockerfile").write_text(INSTALL)
        engine.docker("build", "-q", "-t", name, str(context), timeout=900)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(make, TOOLCHAINS))


@pytest.fixture
def build(engine: Engine) -> Build:
    """``build("redis")`` is ``docker build -t shape/redis projects/redis``: what it said."""

    def call(name: str, *flags: str, tag: str = "") -> str:
        tag = tag or f"shape/{name}"
        flags = ("--network=none", *flags, "-t", tag, str(PROJECTS / name))
        return engine.docker("build", *flags, timeout=900).stdout

    return call


@pytest.fixture
def start(engine: Engine, name: str) -> Callable[..., Container]:
    def call(*arguments: str) -> Container:
        engine.docker("run", "-d", "--name", name, *arguments)
        return Container(engine, name)

    return call


class Container:
    def __init__(self, engine: Engine, name: str) -> None:
        self._engine = engine
        self._name = name

    def exec(self, *command: str) -> str:
        return self._engine.docker("exec", self._name, *command).stdout.strip()

    def inspect(self, form: str) -> str:
        return self._engine.docker("inspect", "-f", form, self._name).stdout.strip()

    def says(self, text: str) -> None:
        def said() -> bool:
            logs = self._engine.docker("logs", self._name)
            return text in logs.stdout + logs.stderr

        wait_until(said, f"{self._name} says {text!r}")

    def get(self, port: int, path: str = "/") -> str:
        """The body that the container's own address answers."""
        address = self.inspect("{{.NetworkSettings.IPAddress}}")
        connection = http.client.HTTPConnection(address, port, timeout=60)
        connection.request("GET", path)
        return connection.getresponse().read().decode()

    def is_healthy(self) -> None:
        wait_until(lambda: self.inspect("{{.State.Health.Status}}") == "healthy", "it is healthy")

    def stop(self) -> int:
        self._engine.docker("stop", "-t", "100", self._name)
        return int(self.inspect("{{.State.ExitCode}}"))


def config(engine: Engine, image: str) -> dict[str, object]:
    document: dict[str, object] = json.loads(engine.docker("inspect", "-f", "{{json .Config}}", image).stdout)
    return document


def is_cached(answer: str) -> bool:
    """Whether all that a build does was found in the cache: its FROM, and ARG before them, do nothing."""
    stages = answer[answer.index(" : FROM ") :]
    return stages.count("Using cache") == stages.count("\nStep ") - (stages.count(" : FROM ") - 1)


def test_redis(build: Build, start: Callable[..., Container]) -> None:
    assert "Redis server v=0.1" in build("redis")
    redis = start("shape/redis")
    redis.says("Ready to accept connections")
    assert redis.exec("redis-cli", "PING") == "PONG"
    assert redis.exec("redis-cli", "SET", "key", "value") == "OK"
    assert redis.exec("redis-cli", "GET", "key") == "value"
    assert redis.exec("redis-cli", "SAVE") == "OK"
    assert redis.exec("stat", "-c", "%U %G", "/data/dump.rdb", "/data") == "redis redis\nredis redis"
    assert "999\t999\t999\t999" in redis.exec("grep", "Uid", "/proc/1/status")


def test_nginx(build: Build, start: Callable[..., Container], engine: Engine) -> None:
    build("nginx", "--build-arg", "MODULES=--with-gzip", "--label", "by=test")
    found = config(engine, "shape/nginx")
    assert found["StopSignal"] == "SIGQUIT" and found["ExposedPorts"] == {"80/tcp": {}}
    assert found["Labels"] == {"maintainer": "Maintainers <docker-maint@example.org>", "by": "test"}
    nginx = start("shape/nginx")
    wait_until(lambda: "0050" in nginx.exec("cat", "/proc/net/tcp"), "it listens")
    assert nginx.get(80) == "<h1>Welcome to nginx!</h1>\n"
    nginx.get(80, "/nosuch")
    nginx.says('"GET /nosuch" 404')
    assert nginx.exec("stat", "-c", "%G", "/usr/share/nginx/html/index.html") == "www-data"
    assert nginx.stop() == 0
    nginx.says("gracefully shutting down")


def test_go_web_server(build: Build, start: Callable[..., Container], engine: Engine) -> None:
    build("goweb", "--build-arg", "VERSION=1.2.3")
    assert (
        len(json.loads(engine.docker("inspect", "-f", "{{json .RootFS.Layers}}", "shape/goweb").stdout)) == 2
    )
    assert config(engine, "shape/goweb")["Labels"] == {"org.opencontainers.image.version": "1.2.3"}
    server = start("shape/goweb")
    server.says("listening on :8080")
    assert server.get(8080) == "hello from 1.2.3 as 65534\n"
    server.is_healthy()


def test_python_application(build: Build, start: Callable[..., Container]) -> None:
    (PROJECTS / "flask/secret.env").write_text("never sent\n")
    try:
        build("flask", "--no-cache")
    finally:
        (PROJECTS / "flask/secret.env").unlink()
    shop = start("shape/flask")
    shop.says("running on 5000")
    assert json.loads(shop.get(5000, "/cart")) == {"path": "/cart", "version": "1.2.3", "prefix": "/opt/venv"}
    assert shop.exec("id", "-un") == "app" and shop.exec("pwd") == "/home/app"


def test_node_application(build: Build, start: Callable[..., Container]) -> None:
    assert "added node_modules/left-pad 1.0.0" in build("node")
    node = start("shape/node")
    node.says("listening")
    assert node.get(3000) == "..production 1000\n"
    assert node.exec("sh", "-c", "ls *.md; stat -c %u:%g node_modules/left-pad") == "README.md\n1000:1000"
    node.is_healthy()
    assert node.stop() == 0


def test_cmake_library(build: Build, run: Callable[..., str]) -> None:
    assert "100% tests passed" in build("cmake")
    assert run("shape/cmake", "a", "b", "c") == "a-b-c\n"


def test_perl_tool(build: Build, run: Callable[..., str], engine: Engine) -> None:
    build("perl", "--build-arg", "PREFIX=/usr/lib/cloc")
    assert run("shape/perl") == "usage: cloc FILE...\n"
    assert run("shape/perl", "/usr/lib/cloc/bin/with space.txt") == "/usr/lib/cloc/bin/with space.txt 2\n"
    found = config(engine, "shape/perl")
    assert found["Labels"] == {"description": "Counts lines", "comment": "#"}
    assert found["Shell"] == ["/bin/bash", "-o", "pipefail", "-c"]


def test_postgres(build: Build, start: Callable[..., Container], engine: Engine) -> None:
    build("postgres")
    refused = engine.docker("run", "--rm", "shape/postgres", check=False)
    assert refused.returncode == 1 and "superuser password is not specified" in refused.stderr
    build("postgres/child")
    postgres = start("shape/postgres/child")
    postgres.says("ready to accept connections")
    colours = ["exec", "-u", "postgres"], ["psql", "-c", "SELECT colours"]
    assert postgres.exec("gosu", "postgres", "psql", "-c", "INSERT colours white") == ""
    assert postgres.exec("stat", "-c", "%U %a", "/var/lib/postgresql/data") == "postgres 700"
    assert postgres.stop() == 0
    postgres.says("received fast shutdown request")
    name = postgres.inspect("{{.Name}}").lstrip("/")
    engine.docker("start", name)
    postgres.says("Skipping initialization")
    shown = engine.docker(*colours[0], name, *colours[1]).stdout
    assert shown == "red\ngreen\nblue\nwhite\n"


def test_onbuild(build: Build, run: Callable[..., str]) -> None:
    build("onbuild/base", tag="app-onbuild")
    answer = build("onbuild/app", "--build-arg", "NODE_ENV=staging")
    assert "# Executing 5 build triggers" in answer
    assert run("shape/onbuild/app") == "child staging 42\n"
    assert run("shape/onbuild/app", "cat", "installed") == "child\n"


@pytest.fixture
def static(engine: Engine) -> Iterator[Callable[..., str]]:
    def call(*flags: str, check: bool = True) -> str:
        done = engine.docker("build", *flags, "-t", "shape/static", str(PROJECTS / "static"), check=check)
        return done.stdout + done.stderr

    yield call


def test_static_program_with_stages_to_choose_from(
    static: Callable[..., str], run: Callable[..., str], engine: Engine
) -> None:
    answer = static("--target", "final")
    assert "RUN exit 42\n ---> Skipped: the target does not need it" in answer
    assert run("shape/static") == "production as 1000\n"
    assert run("shape/static", "/bin/sh", "-c", "pwd; echo /*").startswith("/home\n")
    assert config(engine, "shape/static")["Healthcheck"] == {"Test": ["NONE"]}
    static("--target", "final", "--build-arg", "FLAVOUR=development")
    assert run("shape/static") == "development as 0\n"
    assert "passed" in static("--target", "test")
    assert "returned a non-zero code: 42" in static("--target", "broken", check=False)


def test_projects_at_the_same_time_and_again(build: Build, run: Callable[..., str]) -> None:
    """Builds side by side share bases, steps and a cache; whatever was built is found again."""
    names = ("redis", "nginx", "perl", "postgres", "cmake")
    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(lambda name: build(name, "--no-cache", tag=f"other/{name}"), names))
        again = dict(zip(names, pool.map(build, names), strict=True))
    assert run("other/cmake", "a", "b") == "a-b\n" and run("other/perl") == "usage: cloc FILE...\n"
    assert [name for name, answer in again.items() if not is_cached(answer)] == []


def test_heredocs_and_mounts(build: Build, run: Callable[..., str]) -> None:
    build("heredoc")
    assert run("shape/heredoc") == "8000 hello world $HOME\n<p>welcome</p>\n"
    assert run("shape/heredoc", "CHECK") == "clean\n"
    assert run("shape/heredoc", "cat", "/made") == "made by 3\n"
    assert is_cached(build("heredoc"))
