"""What is left of an engine's work when only one container of it is: looked up everywhere it could be."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
from pathlib import Path

import docker

from tests.e2e import agreement
from tests.harness.builds import workers
from tests.harness.engine import Engine
from tests.harness.readiness import wait_until
from tests.harness.stored import Stored

#: What is said of images in the builder's tables.
_CACHED = """SELECT image_id FROM build_cache UNION SELECT image_id FROM build_results
    UNION SELECT image_id FROM build_uses"""


def clean(engine: Engine, keep: str) -> None:
    """What a crash cut off from removing, by the API: so that all that is left is an orphan."""
    api = engine.client.api
    for item in api.containers(all=True):
        if item["Names"] != [f"/{keep}"]:
            with contextlib.suppress(docker.errors.NotFound, docker.errors.APIError):
                api.remove_container(item["Id"], force=True, v=True)
    wait_until(lambda: len(api.containers(all=True)) == 1, "all containers are removed")
    for network in list(api.inspect_container(keep)["NetworkSettings"]["Networks"]):
        if network != "bridge":
            with contextlib.suppress(docker.errors.NotFound):
                api.disconnect_container_from_network(keep, network, force=True)
    api.prune_networks()
    api.prune_volumes({"all": ["true"]})
    api.prune_images({"dangling": ["true"]})


def check(engine: Engine, name: str) -> None:
    """Database, disk, rules and mounts know the one container that is left, and nothing else.

    A request whose API server was killed may still be at work: what it makes meanwhile is removed as well.
    """
    container = engine.client.api.inspect_container(name)["Id"]
    try:
        wait_until(lambda: not _differing(engine, name, container), "nothing is left", poll=0.1)
    except TimeoutError:
        raise AssertionError("\n".join(_differing(engine, name, container))) from None
    agreement.check(engine)
    _check_rules(engine)


def _differing(engine: Engine, name: str, container: str) -> list[str]:
    """What there is but should not be, or the other way round; what the API knows is removed then."""
    api, root = engine.client.api, engine.data_root
    overlay = root / "overlay2"
    directories = {path.name for path in overlay.iterdir()} - {"l", "trash"}
    networks = {"bridge", "host", "none"}
    with contextlib.closing(_database(engine)) as database:

        def rows(sql: str) -> set[str]:
            return {row[0] for row in database.execute(sql)}

        pairs = {
            "networks": ({item["Name"] for item in api.networks()}, networks),
            "networks in the database": (rows("SELECT name FROM networks"), networks),
            "volumes": (api.volumes()["Volumes"] or [], []),
            "volumes in the database": (rows("SELECT name FROM volumes"), set()),
            "directories of volumes": (os.listdir(root / "volumes"), []),
            "containers in the database": (rows("SELECT id FROM containers"), {container}),
            "sandboxes": (rows("SELECT container_id FROM sandboxes"), {container}),
            "layers of containers": (rows("SELECT container_id FROM rw_layers"), {container}),
            "directories of layers": (
                {one for one in directories if not one.endswith("-init")},
                {container} | rows("SELECT cache_id FROM layers"),
            ),
            "trash": (os.listdir(overlay / "trash"), []),
            "contexts of builds": (os.listdir(root / "tmp"), ["root"]),
        }
    found = [f"{what}: {one}, not {other}" for what, (one, other) in pairs.items() if one != other]
    if found:
        clean(engine, name)
    return found


def check_images(engine: Engine, containers: set[str]) -> None:
    """Images, their names, configurations and layers agree with the disk, soon: what was removed goes in the
    background."""

    def problem() -> str:
        return Stored(engine.data_root, containers=containers).problem()

    try:
        wait_until(lambda: not problem(), "database and disk agree")
    except TimeoutError:
        raise AssertionError(f"{problem()}\n{engine.log_tail()}") from None


def check_builds(engine: Engine) -> None:
    """Of builds whose images and cache are removed nothing is left but the one image that they began with."""
    wait_until(lambda: not list(workers(engine)), "no helper is at work")
    wait_until(lambda: not os.listdir(engine.data_root / "buildcache"), "cache mounts are gone")
    overlay = engine.data_root / "overlay2"

    def agrees() -> bool:
        with contextlib.closing(_database(engine)) as database:
            cached = database.execute(_CACHED).fetchall()
            images = database.execute("SELECT id FROM images").fetchall()
            bases = {base for (base,) in database.execute("SELECT cache_id FROM layers")}
        splits = {path.stem for path in (engine.data_root / "image/overlay2/layerdb").iterdir()}
        try:
            links = {os.readlink(path).split("/")[1] for path in (overlay / "l").iterdir()}
        except FileNotFoundError:  # a layer goes just now
            return False
        layers = {path.name for path in overlay.iterdir()} - {"l", "trash"}
        return not cached and len(images) == 1 and splits == bases and links == layers

    wait_until(agrees, "the database, the layers, their names and their splits have nothing of builds")


def _database(engine: Engine) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{engine.data_root}/engine.db?mode=ro", uri=True)


def _check_rules(engine: Engine) -> None:
    """No port is published, and there is one bridge."""
    if shutil.which("nft") is None:
        return
    table = ["nft", "list", "table", "ip", f"wharfd-{engine.bridge}"]
    text = subprocess.run(table, capture_output=True, text=True, check=True).stdout
    assert " : " not in text.partition("map ports {")[2].partition("map subnets {")[0].replace(
        "inet_service : ipv4_addr", ""
    ), text
    assert f'elements = {{ "{engine.bridge}" }}' in text, text


def mounts(engine: Engine) -> list[str]:
    """The host's mounts in *engine*'s directories, as in mountinfo (proc(5))."""
    return [one for one in Path("/proc/self/mountinfo").read_text().splitlines() if str(engine.root) in one]
