"""Fixtures of all tests."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.harness import leaks

#: The same examples in every run, however slow the machine is. ``--hypothesis-profile=explore`` looks for
#: new ones, ``--hypothesis-seed`` says which.
settings.register_profile(
    "wharfd", deadline=None, derandomize=True, print_blob=True, suppress_health_check=list(HealthCheck)
)
settings.register_profile("explore", settings.get_profile("wharfd"), derandomize=False, max_examples=2000)
settings.load_profile("wharfd")


@pytest.fixture(scope="session", autouse=True)
def no_leaks() -> Iterator[None]:
    """Tests leave nothing behind on the host."""
    if os.geteuid() != 0:
        yield
        return
    before = leaks.take()
    yield
    found = leaks.leaked(before)
    assert not found, "left behind:\n" + "\n".join(found)


def own_addresses() -> tuple[str, ...]:
    """Where many daemons share a host, those of a test run do not take the others' last subnet, or meet them
    in taking one."""
    if not os.environ.get("WHARFD_SHARED_HOST"):
        return ()
    return ("--default-address-pool", f"base=10.{64 + os.getpid() % 128}.0.0/16,size=24")


@pytest.fixture(scope="module")
def engine() -> Iterator[object]:
    """A running wharfd with ``busybox:latest``; all its containers go when the module ends."""
    from tests.harness.engine import Engine

    if os.geteuid() != 0:
        pytest.skip("containers need root")
    daemon = Engine(*own_addresses())
    try:
        daemon.start()
        daemon.load_images()
        yield daemon
    finally:
        daemon.close()


@pytest.fixture
def docker_command() -> str:
    """Path of the docker command; the test is skipped where there is none."""
    path = shutil.which("docker")
    if path is None:
        pytest.skip("there is no docker command")
    return path
