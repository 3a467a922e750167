"""Whom the crash point tests kill, and when."""

from __future__ import annotations

import docker
import psutil

from tests.e2e.crash import shim
from tests.harness.engine import Engine
from tests.harness.readiness import wait_until


def victim(engine: Engine, service: str) -> int:
    """Pid to kill: a service's (the API server's worker, not who watches it), or the zygote's, with which
    everything that it forks is watched."""
    if service == "shim":
        return shim(engine, engine.client.api.inspect_container("point")["Id"])
    pid = engine.service_pids()["containerd-shim" if service == "zygote" else service]
    if service not in ("zygote", "apiserver"):
        return pid
    wait_until(lambda: len(psutil.Process(pid).children()) == 1, f"{service} has forked")
    return psutil.Process(pid).children()[0].pid


def init(engine: Engine) -> int:
    """The pid of the operation's container; 0 if it does not run, or not any more."""
    try:
        return int(engine.client.api.inspect_container("point")["State"]["Pid"])
    except docker.errors.NotFound:
        return 0


def is_steady(engine: Engine) -> bool:
    """Its supervisor has seen the services run for long enough to restart them without delay."""
    return all(
        item["statename"] == "RUNNING" for item in engine.supervisor.getAllProcessInfo() if item["pid"]
    )
