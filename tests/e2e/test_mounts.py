"""Images and volumes mounted into containers, by the docker command."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness.engine import Engine

pytestmark = pytest.mark.usefixtures("docker_command")


def refused(engine: Engine, *arguments: str) -> str:
    done = engine.docker(*arguments, check=False)
    assert done.returncode != 0, done.stdout
    return done.stderr


@pytest.fixture
def other(engine: Engine) -> str:
    """An image of one file in two layers, which nothing else has."""
    dockerfile = "FROM busybox\nRUN mkdir /only && echo first > /only/a\nRUN echo second > /only/b\n"
    engine.docker("build", "-q", "-t", "other", "-", stdin=dockerfile)
    return "other"


def test_an_image_is_mounted(engine: Engine, run: Callable[..., str], other: str) -> None:
    assert run("--mount", f"type=image,src={other},dst=/m", "busybox", "cat", "/m/only/a", "/m/only/b") == (
        "first\nsecond\n"
    )
    part = f"type=image,src={other},dst=/m,image-subpath=only"
    assert run("--mount", part, "busybox", "ls", "/m") == "a\nb\n"
    done = refused(engine, "run", "--rm", "--mount", part, "busybox", "touch", "/m/x")
    assert "Read-only file system" in done
    missing = f"type=image,src={other},dst=/m,image-subpath=only/none"
    assert "cannot access path" in refused(engine, "run", "--rm", "--mount", missing, "busybox", "true")
    outside = f"type=image,src={other},dst=/m,image-subpath=../x"
    text = 'invalid mount config for type "image": subpath must be a relative path within the volume'
    assert text in refused(engine, "create", "--mount", outside, "busybox")
    engine.docker("rmi", other)


def test_a_mounted_image_outlives_its_removal_and_the_engine(engine: Engine, name: str, other: str) -> None:
    engine.docker(
        "create", "--name", name, "--mount", f"type=image,src={other},dst=/m", "busybox", "cat", "/m/only/b"
    )
    (mount,) = json.loads(engine.docker("inspect", name).stdout)[0]["Mounts"]
    assert (mount["Type"], mount["Name"], mount["RW"]) == ("image", other, False)
    assert "is using its referenced image" in refused(engine, "rmi", other)
    engine.docker("rmi", "-f", other)
    engine.restart()
    assert engine.docker("start", "-a", name).stdout == "second\n"
    layers = engine.data_root / "overlay2"
    before = len(list(layers.iterdir()))
    engine.docker("rm", name)
    assert len(list(layers.iterdir())) < before - 1, "its own layer and those of the image are gone"


def test_a_volume_over_a_file_is_refused(engine: Engine) -> None:
    text = refused(engine, "create", "-v", "/etc/passwd", "busybox")
    assert "cannot mount volume over existing file, file exists" in text
    text = refused(engine, "create", "-v", "over:/etc/passwd", "busybox")
    assert "merged/etc/passwd is not directory" in text
    assert engine.docker("volume", "ls", "-q").stdout == "over\n"
    engine.docker("volume", "rm", "over")


def test_a_volume_that_cannot_be_mounted(engine: Engine, tmp_path: Path) -> None:
    """Where the image has something to copy it is missed at once, else at the start."""
    options = ["--opt", "type=none", "--opt", "o=bind", "--opt", f"device={tmp_path}/late"]
    engine.docker("volume", "create", *options, "bound")
    text = refused(engine, "create", "-v", "bound:/etc", "busybox")
    assert "failed to populate volume: error while mounting volume" in text
    created = engine.docker("create", "-v", "bound:/late", "busybox", "touch", "/late/x").stdout.strip()
    assert "failed to mount local volume" in refused(engine, "start", created)
    (tmp_path / "late").mkdir()
    engine.docker("start", "-a", created)
    assert (tmp_path / "late" / "x").exists()
    engine.docker("rm", created)
    engine.docker("volume", "rm", "bound")
