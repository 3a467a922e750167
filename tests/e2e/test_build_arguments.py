"""Build arguments: scopes, and the instructions in which variables mean something."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.builds import Context
from tests.harness.engine import Engine

pytestmark = [pytest.mark.usefixtures("docker_command"), pytest.mark.timeout(400)]


@pytest.fixture
def context(engine: Engine, tmp_path: Path) -> Iterator[Context]:
    yield Context(engine, tmp_path)
    engine.remove_containers()


def test_platforms_are_not_predefined(context: Context) -> None:
    """dockerd's classic builder has no values for BuildKit's arguments, and takes given ones."""
    text = context.build(
        "FROM --platform=$BUILDPLATFORM busybox\nARG TARGETPLATFORM\nRUN echo none:$TARGETPLATFORM:\n"
    )
    assert "\nnone::\n" in text
    given = context.build("ARG TARGETOS\nRUN echo given:$TARGETOS\n", "--build-arg", "TARGETOS=plan9")
    assert "\ngiven:plan9\n" in given and "were not consumed" not in given


def test_a_proxy_that_is_not_declared_is_counted_but_not_told(engine: Engine, context: Context) -> None:
    text = "RUN echo proxy:$http_proxy\n"
    context.build(text)
    with_proxy = context.build(text, "--build-arg", "http_proxy=secret", "-t", "proxied")
    assert "\nproxy:secret\n" in with_proxy  # what was made without one is not taken
    assert "Using cache" in context.build(text, "--build-arg", "http_proxy=other")
    history = engine.docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", "proxied").stdout
    assert history.splitlines()[0] == "|0 /bin/sh -c echo proxy:$http_proxy"


def test_scopes(context: Context) -> None:
    text = context.build(
        "ARG a=one\nRUN echo first:$a\n"
        "FROM busybox AS second\nRUN echo second:$a\nARG a\nRUN echo again:$a\n"
        "FROM second\nRUN echo third:$a\nARG b=${c:-d} c=e\nRUN echo late:$b,$c\n"
        "ENV b=env\nRUN echo env:$b\n",
        "--build-arg", "c=C",
    )  # fmt: skip
    for line in ("first:one", "second:", "again:", "third:", "late:d,C", "env:env"):
        assert f"\n{line}\n" in text


def test_where_variables_are_expanded(engine: Engine, context: Context) -> None:
    context.write("ab.tar.gz", "data")
    text = context.build(
        "ENV f=ab.tar.gz u=daemon n=8 v=/vol\nARG m=600\n"
        "COPY --chown=${u%mon}mon --chmod=$m ${f%%.*}.t?r.gz /d/${f##*.}/\n"
        "ADD --chmod=${m/6/7} ${f/tar/tar} /d/${f//a/o}\n"
        "WORKDIR ${v#/}/${none:-w}\nUSER ${u}:${n:+0}\nVOLUME $v/x ${v}y\nEXPOSE ${n}0/tcp 9${n}/udp\n"
        "LABEL k$n=\"v $n\" plain='$n'\nSTOPSIGNAL ${none-SIGUSR1}\nENV e=\\$n g=${f#*.}\n"
        'CMD ["$n"]\nENTRYPOINT echo $n\nHEALTHCHECK CMD echo $n\nONBUILD RUN echo $n\n'
        "USER root\nRUN stat -c '%n %a %u' /d/gz/* /d/*.gz; pwd\n",
        "-t", "expanded",
    )  # fmt: skip
    assert "\n/d/gz/ab.tar.gz 600 1\n/d/ob.tor.gz 700 0\n/vol/w\n" in text
    config = json.loads(engine.docker("image", "inspect", "expanded").stdout)[0]["Config"]
    assert config["Volumes"].keys() == {"/vol/x", "/voly"}
    assert config["ExposedPorts"].keys() == {"80/tcp", "98/udp"}
    assert config["Labels"] == {"k8": "v 8", "plain": "$n"}
    assert config["StopSignal"] == "SIGUSR1"
    assert config["Env"][-2:] == ["e=$n", "g=tar.gz"]
    assert config["Cmd"] == ["$n"] and config["Entrypoint"] == ["/bin/sh", "-c", "echo $n"]
    assert config["Healthcheck"]["Test"] == ["CMD-SHELL", "echo $n"]
    assert config["OnBuild"] == ["RUN echo $n"]


def test_required_variables(context: Context) -> None:
    failed = context.build("WORKDIR /${x:?the message}\n", check=False)
    assert 'failed to process "/${x:?the message}": x: the message' in failed
    failed = context.build("ENV x=\nEXPOSE ${x:?}\n", check=False)
    assert 'failed to process "${x:?}": x: is not allowed to be empty' in failed
