"""Copying to a container that comes and goes."""

from __future__ import annotations

from tests.harness.engine import Engine


def test_a_container_that_stops_while_its_files_are_copied(engine: Engine) -> None:
    engine.docker("run", "-d", "--name", "flicker", "--restart", "always", "busybox", "sleep", "0.05")
    for _ in range(3):
        for _ in range(5):
            engine.docker("cp", "/etc/hostname", "flicker:/tmp/copied")
        engine.docker("restart", "-t", "0", "flicker")
    engine.docker("rm", "-f", "flicker")
