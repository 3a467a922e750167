"""What a created container looks like."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from services.engine.containers.inspect import inspect
from services.engine.containers.names import check_name, random_name
from services.protocol.api.containers import Config
from services.protocol.errors import SystemError_
from services.protocol.verbs.containers import InspectArgs
from tests.unit.containers.world import PATH, World, run


def shown(world: World, ref: str, *, size: bool = False) -> dict[str, Any]:
    document = run(inspect(world.services, InspectArgs(ref, size=size)))
    return dict(msgspec.to_builtins(document))


def test_defaults_of_a_request_that_says_nothing(world: World) -> None:
    reply = run(world.create({"Image": "busybox"}, "d2"))
    document = shown(world, "d2")
    host = document["HostConfig"]
    assert host["NetworkMode"] == "bridge"
    assert host["IpcMode"] == "private"
    assert host["ShmSize"] == 64 * 1024 * 1024
    assert host["RestartPolicy"] == {"Name": "no", "MaximumRetryCount": 0}
    assert host["LogConfig"] == {"Type": "json-file", "Config": {}}
    assert host["ConsoleSize"] == [0, 0]
    assert host["OomKillDisable"] is False
    assert host["PortBindings"] == {}
    assert host["ReadonlyPaths"][0] == "/proc/bus"
    assert [host[name] for name in ("Binds", "Devices", "Dns", "Ulimits", "CapAdd", "Links")] == [None] * 6
    assert not {"Annotations", "Init", "Mounts", "Sysctls", "Tmpfs", "StorageOpt"} & host.keys()
    assert document["Config"]["Hostname"] == reply.id[:12]
    assert document["Config"]["Env"] == [PATH]
    assert (document["Path"], document["Args"]) == ("sh", [])
    assert document["LogPath"] == document["HostsPath"] == ""
    assert document["ExecIDs"] is None
    assert list(document["NetworkSettings"]["Networks"]) == ["bridge"]
    assert document["NetworkSettings"]["Ports"] == {}
    assert document["State"]["StartedAt"] == "0001-01-01T00:00:00Z"
    assert world.actions == [("create", {"image": "busybox", "name": "d2"})]


def test_null_stays_null_and_empty_stays_empty(world: World) -> None:
    body = {"Image": "busybox", "HostConfig": {"Dns": [], "Devices": [], "CapAdd": None, "MaskedPaths": []}}
    run(world.create(body, "d1"))
    host = shown(world, "d1")["HostConfig"]
    assert (host["Dns"], host["Devices"], host["CapAdd"], host["MaskedPaths"]) == ([], [], None, [])


def test_keys_of_inspect(world: World) -> None:
    run(world.create({"Image": "busybox"}, "d1"))
    assert sorted(shown(world, "d1")) == [
        "AppArmorProfile", "Args", "Config", "Created", "Driver", "ExecIDs", "GraphDriver", "HostConfig",
        "HostnamePath", "HostsPath", "Id", "Image", "LogPath", "MountLabel", "Mounts", "Name",
        "NetworkSettings", "Path", "Platform", "ProcessLabel", "ResolvConfPath", "RestartCount", "State",
    ]  # fmt: skip
    assert shown(world, "d1", size=True)["SizeRw"] == 5


def test_image_configuration_is_merged(world: World) -> None:
    world.images.configs["img"] = Config(
        entrypoint=["echo", "ep"],
        cmd=["cmd", "def"],
        env=[PATH, "A=img", "B=img"],
        labels={"l": "img", "m": "img"},
        working_dir="/app",
        volumes={"/v": {}},
        exposed_ports={"80/tcp": {}},
        stop_signal="SIGUSR2",
    )
    entry = run(world.made({"Image": "img", "Env": ["B=cli"], "Labels": {"l": "cli"}}, "c1"))
    config = entry.definition.config
    assert config.env == ["B=cli", PATH, "A=img"]
    assert config.labels == {"l": "cli", "m": "img"}
    assert (entry.definition.path, entry.definition.args) == ("echo", ["ep", "cmd", "def"])
    assert world.layers.directories == ["/app"]
    assert [mount.destination for mount in entry.definition.mounts] == ["/v"]
    assert config.stop_signal == "SIGUSR2"


def test_an_entrypoint_resets_the_command(world: World) -> None:
    world.images.configs["img"] = Config(entrypoint=["echo"], cmd=["def"])
    for body, entrypoint, command in (
        ({"Entrypoint": ["id"]}, ["id"], None),
        ({"Entrypoint": ["id"], "Cmd": ["-u"]}, ["id"], ["-u"]),
        ({"Entrypoint": [""], "Cmd": ["echo", "x"]}, None, ["echo", "x"]),
        ({"Cmd": ["x"]}, ["echo"], ["x"]),
        ({"Cmd": []}, ["echo"], ["def"]),
        ({"Entrypoint": []}, None, ["def"]),
    ):
        config = run(world.made({"Image": "img", **body})).definition.config
        assert (config.entrypoint, config.cmd) == (entrypoint, command), body


def test_volumes(world: World) -> None:
    body = {"Volumes": {"/anon": {}}, "HostConfig": {"Binds": ["named:/n", "/tmp:/b:ro"]}}
    entry = run(world.made(body, "data"))
    mounts = {mount["Destination"]: mount for mount in shown(world, "data")["Mounts"]}
    assert mounts["/n"] | {"Source": ""} == {
        "Type": "volume", "Name": "named", "Source": "", "Destination": "/n", "Driver": "local",
        "Mode": "z", "RW": True, "Propagation": "",
    }  # fmt: skip
    assert mounts["/b"] == {
        "Type": "bind", "Source": "/tmp", "Destination": "/b", "Mode": "ro", "RW": False,
        "Propagation": "rprivate",
    }  # fmt: skip
    assert mounts["/anon"]["Mode"] == ""
    assert [path for path, _ in world.layers.copied] == ["/n", "/anon"]
    user = run(world.made({"HostConfig": {"VolumesFrom": ["data:ro"]}}, "user"))
    assert {(mount.destination, mount.rw, mount.copy_data) for mount in user.definition.mounts} == {
        ("/n", False, False),
        ("/b", False, False),
        ("/anon", False, False),
    }
    assert {mount.name for mount in user.definition.mounts} == {m.name for m in entry.definition.mounts}


def test_a_tmpfs_takes_the_place_of_a_volume(world: World) -> None:
    body = {"Volumes": {"/a": {}, "/b": {}}, "HostConfig": {"Tmpfs": {"/a": ""}}}
    run(world.made(body, "data"))
    assert [mount["Destination"] for mount in shown(world, "data")["Mounts"]] == ["/b"]


def test_a_volume_with_content_is_not_filled(world: World) -> None:
    run(world.made({"HostConfig": {"Binds": ["vol:/v"]}}))
    path = world.volumes.known["vol"].mountpoint
    with open(f"{path}/x", "w"):
        pass
    run(world.made({"HostConfig": {"Binds": ["vol:/v"]}}))
    assert len(world.layers.copied) == 1


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"HostConfig": {"Binds": ["vol:/etc/passwd"]}}, "source .*/etc/passwd is not directory"),
        (
            {"Volumes": {"/etc/passwd": {}}},
            "cannot mount volume over existing file, file exists .*/etc/passwd",
        ),
    ],
)
def test_a_volume_over_a_file(world: World, body: dict[str, object], text: str) -> None:
    with pytest.raises(SystemError_, match=text):
        run(world.made(body))
    assert set(world.volumes.known) <= {"vol"}, "an anonymous volume is given back"
    assert not world.volumes.held


def test_security_options_of_the_privileged(world: World) -> None:
    host = run(world.made({"HostConfig": {"Privileged": True}})).definition.host_config
    assert host.security_opt == ["label=disable"]
    assert host.masked_paths is None


def test_joined_containers_are_named_by_id(world: World) -> None:
    other = run(world.made(name="other"))
    host = {"NetworkMode": "container:other", "IpcMode": "container:other", "PidMode": "container:other"}
    entry = run(world.made({"HostConfig": host}))
    definition = entry.definition
    modes = definition.host_config
    assert {modes.network_mode, modes.ipc_mode, modes.pid_mode} == {f"container:{other.id}"}
    assert definition.endpoints == {}


def test_links_are_shown_under_current_names(world: World) -> None:
    run(world.made(name="db"))
    run(world.made({"HostConfig": {"Links": ["db", "db:store"]}}, "app"))
    assert shown(world, "app")["HostConfig"]["Links"] == ["/db:/app/db", "/db:/app/store"]


def test_mac_address_moves_to_its_network(world: World) -> None:
    body = {"Image": "busybox", "MacAddress": "02:00:00:00:00:01"}
    reply = run(world.create(body, "m1"))
    assert reply.warnings == [
        "The container-wide MacAddress field is now deprecated. "
        "It should be specified in EndpointsConfig instead."
    ]
    definition = world.services.registry.get("m1").definition
    assert definition.endpoints["bridge"].mac_address == "02:00:00:00:00:01"
    assert run(world.create({"Image": "busybox", "MacAddress": "bogus"})).warnings == []
    assert run(world.create(body, version=(1, 43))).warnings == []


def test_old_api_versions(world: World) -> None:
    run(world.create({"Image": "busybox", "HostConfig": {"Binds": ["/tmp:/t:ro"]}}, "old", (1, 39)))
    old = world.services.registry.get("old").definition
    assert old.host_config.ipc_mode == "shareable"
    assert old.mounts[0].read_only_non_recursive
    run(world.create({"Image": "busybox", "HostConfig": {"Binds": ["/tmp:/t:ro"]}}, "new", (1, 44)))
    assert not world.services.registry.get("new").definition.mounts[0].read_only_non_recursive


def test_a_repeated_request_makes_one_container(world: World) -> None:
    first = run(world.create({"Image": "busybox"}, "once"))
    assert run(world.create({"Image": "busybox"}, "once", attempt=2)).id == first.id


def test_random_names_are_valid() -> None:
    for _ in range(200):
        check_name(random_name())
