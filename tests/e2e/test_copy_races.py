"""Copying to a container that comes and goes."""

from __future__ import annotations

import io
import subprocess
import tarfile

import docker

from tests.harness.engine import Engine


def test_a_container_that_stops_while_its_files_are_copied(engine: Engine) -> None:
    engine.docker("run", "-d", "--name", "flicker", "--restart", "always", "busybox", "sleep", "0.05")
    for _ in range(3):
        for _ in range(5):
            engine.docker("cp", "/etc/hostname", "flicker:/tmp/copied")
        engine.docker("restart", "-t", "0", "flicker")
    engine.docker("rm", "-f", "flicker")


def test_the_whole_root_of_a_running_container(engine: Engine) -> None:
    """With the kernel's views empty: they are not the container's files."""
    engine.docker("run", "-d", "--name", "whole", "busybox", "sleep", "1000")
    archive = subprocess.run(
        ["docker", "cp", "whole:/", "-"], env=engine.environment, capture_output=True, check=True, timeout=60
    )
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        names = tar.getnames()
    engine.docker("rm", "-f", "whole")
    assert any(name.endswith("etc/passwd") for name in names)
    assert not [name for name in names if "proc/" in name or "sys/" in name]


def test_a_container_that_stops_while_its_files_are_read(engine: Engine) -> None:
    """Its end may come between the look at the path and the archive: then its next root is read."""
    engine.docker("run", "-d", "--name", "blinks", "--restart", "always", "busybox", "sleep", "0.02")
    api = engine.client.api
    for _ in range(3):
        for _ in range(15):
            stream, stat = api.get_archive("blinks", "/etc/passwd")
            with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as tar:
                assert (tar.getnames(), stat["name"]) == (["passwd"], "passwd")
            assert b"".join(api.export("blinks"))
        engine.docker("restart", "-t", "0", "blinks")
    engine.docker("rm", "-f", "blinks")


def test_a_container_that_goes_while_its_files_are_read(engine: Engine) -> None:
    """They are there, or it is not."""
    api = engine.client.api
    for _ in range(15):
        container = engine.client.containers.run("busybox", ["sleep", "0.05"], detach=True, auto_remove=True)
        try:
            while True:
                stream, _ = api.get_archive(container.id, "/etc/passwd")
                assert b"".join(stream)
        except docker.errors.NotFound as error:
            assert "No such container" in str(error)
