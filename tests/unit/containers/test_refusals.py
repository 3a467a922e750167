"""Requests that Docker refuses, with its texts and kinds; and some that it surprisingly takes."""

from __future__ import annotations

from typing import Any

import pytest

from services.engine.containers import capabilities
from services.engine.containers.validate.interface_sysctls import adapt_sysctls
from services.protocol.api.containers import HostConfig, PortBinding
from services.protocol.api.networks import EndpointSettings
from services.protocol.errors import ErrorKind, WharfError
from tests.unit.containers.world import World, run

INVALID, SYSTEM, MISSING = ErrorKind.INVALID_PARAMETER, ErrorKind.SYSTEM, ErrorKind.NOT_FOUND

Case = tuple[dict[str, Any], ErrorKind, str]

HOST: list[Case] = [
    ({"Memory": 1000}, INVALID, "Minimum memory limit allowed is 6MB"),
    ({"Memory": -1}, INVALID, "Minimum memory limit allowed is 6MB"),
    (
        {"MemorySwap": 67108864},
        INVALID,
        "You should always set the Memory limit when using Memoryswap limit, see usage",
    ),
    (
        {"NanoCpus": 500000000, "CpuQuota": 50000},
        INVALID,
        "Conflicting options: Nano CPUs and CPU Quota cannot both be set",
    ),
    ({"CpuShares": -1}, INVALID, "invalid CPU shares (-1): value must be a positive integer"),
    ({"CpusetCpus": "a-b"}, INVALID, "Invalid value a-b for cpuset cpus: invalid format: a-b"),
    ({"CpusetCpus": "0,"}, INVALID, "Invalid value 0, for cpuset cpus: invalid format: 0,"),
    ({"CpusetMems": " 0"}, INVALID, "Invalid value  0 for cpuset mems: invalid format:  0"),
    (
        {"CpusetCpus": "0-9999"},
        INVALID,
        "Invalid value 0-9999 for cpuset cpus: value of out range, maximum is 8192",
    ),
    (
        {"Sysctls": {"net.ipv4.conf.eth0.forwarding": "1"}},
        SYSTEM,
        'interface specific sysctl setting "net.ipv4.conf.eth0.forwarding" must be supplied using driver '
        "option 'com.docker.network.endpoint.sysctls'",
    ),
    ({"ShmSize": -1}, INVALID, "SHM size can not be less than 0"),
    ({"OomScoreAdj": -1001}, INVALID, "Invalid value -1001, range for oom score adj is [-1000, 1000]"),
    ({"CapAdd": ["BOGUS"]}, INVALID, 'invalid CapAdd: unknown capability: "CAP_BOGUS"'),
    ({"SecurityOpt": ["bogus"]}, SYSTEM, 'invalid --security-opt 1: "bogus"'),
    ({"SecurityOpt": ["a=b"]}, SYSTEM, 'invalid --security-opt 2: "a=b"'),
    (
        {"RestartPolicy": {"Name": "sometimes"}},
        INVALID,
        "invalid restart policy: unknown policy 'sometimes'; "
        "use one of 'no', 'always', 'on-failure', or 'unless-stopped'",
    ),
    (
        {"RestartPolicy": {"Name": "always", "MaximumRetryCount": -1}},
        INVALID,
        "invalid restart policy: maximum retry count can only be used with 'on-failure' "
        "and cannot be negative",
    ),
    (
        {"AutoRemove": True, "RestartPolicy": {"Name": "on-failure"}},
        INVALID,
        "can't create 'AutoRemove' container with restart policy",
    ),
    (
        {"LogConfig": {"Type": "bogus"}},
        INVALID,
        'error looking up logging plugin bogus: plugin "bogus" not found',
    ),
    (
        {"LogConfig": {"Config": {"nosuch": "1"}}},
        INVALID,
        "unknown log opt 'nosuch' for json-file log driver",
    ),
    (
        {"LogConfig": {"Type": "local", "Config": {"tag": "x"}}},
        INVALID,
        "unknown log opt 'tag' for log driver local",
    ),
    ({"LogConfig": {"Config": {"mode": "x"}}}, INVALID, "logger: logging mode not supported: x"),
    ({"Runtime": "bogus"}, INVALID, "unknown or invalid runtime name: bogus"),
    ({"Isolation": "bogus"}, INVALID, "invalid isolation (bogus): linux only supports 'default'"),
    ({"IpcMode": "bogus"}, INVALID, "invalid IPC mode: bogus"),
    ({"IpcMode": "container:nosuch"}, INVALID, "No such container: nosuch"),
    ({"ExtraHosts": ["bad"]}, INVALID, 'bad format for add-host: "bad"'),
    ({"ExtraHosts": ["a:notanip"]}, INVALID, 'invalid IP address in add-host: "notanip"'),
    ({"Binds": ["/a:b"]}, SYSTEM, "invalid volume specification: '/a:b': invalid mount config for type "
     "\"bind\": invalid mount path: 'b' mount path must be absolute"),
    ({"Binds": ["/tmp:/c:bogus"]}, SYSTEM, "invalid mode: bogus"),
    ({"Binds": ["/tmp:/c:ro,rw"]}, SYSTEM, "invalid mode: ro,rw"),
    ({"Binds": ["/tmp:/c:ro:x"]}, SYSTEM, "invalid volume specification: '/tmp:/c:ro:x'"),
    ({"Binds": [""]}, SYSTEM, "invalid volume specification: ''"),
    ({"Binds": ["/tmp:/c", "/var:/c"]}, INVALID, "Duplicate mount point: /c"),
    ({"Binds": ["vol:/m:rshared"]}, SYSTEM, "invalid volume specification: 'vol:/m:rshared': invalid mount "
     'config for type "volume": field BindOptions must not be specified'),
    ({"Mounts": [{"Type": "bogus", "Target": "/m"}]}, INVALID,
     'invalid mount config for type "bogus": mount type unknown'),
    ({"Mounts": [{"Type": "bind", "Source": "/nosuchdir", "Target": "/m"}]}, INVALID,
     'invalid mount config for type "bind": bind source path does not exist: /nosuchdir'),
    ({"Mounts": [{"Type": "bind", "Target": "/m"}]}, INVALID,
     'invalid mount config for type "bind": field Source must not be empty'),
    ({"Mounts": [{"Type": "bind", "Source": "/tmp"}]}, INVALID,
     'invalid mount config for type "bind": field Target must not be empty'),
    ({"Mounts": [{"Type": "bind", "Source": "/tmp", "Target": "/m", "VolumeOptions": {}}]}, INVALID,
     'VolumeOptions must not be specified on mount type "bind"'),
    ({"Mounts": [{"Type": "bind", "Source": "/tmp", "Target": "/m", "BindOptions": {"Propagation": "x"}}]},
     INVALID, 'invalid mount config for type "bind": invalid propagation mode: x'),
    ({"Mounts": [{"Type": "volume", "Target": "/"}]}, INVALID,
     'invalid mount config for type "volume": invalid specification: destination can\'t be \'/\''),
    ({"Mounts": [{"Type": "tmpfs", "Source": "x", "Target": "/m"}]}, INVALID,
     'invalid mount config for type "tmpfs": field Source must not be specified'),
    ({"Mounts": [{"Type": "volume", "Source": "v", "Target": "/m", "VolumeOptions": {"Subpath": "../x"}}]},
     INVALID, 'invalid mount config for type "volume": subpath must be a relative path within the volume'),
    ({"Mounts": [{"Type": "volume", "Target": "/m"}, {"Type": "tmpfs", "Target": "/m"}]}, INVALID,
     "Duplicate mount point: /m"),
    ({"Tmpfs": {"rel": ""}}, INVALID, "invalid mount path: 'rel' mount path must be absolute"),
    ({"Tmpfs": {"/": ""}}, INVALID, "invalid specification: destination can't be '/'"),
    ({"VolumesFrom": ["nosuch"]}, INVALID, "No such container: nosuch"),
    ({"VolumesFrom": ["a:bogus"]}, INVALID, "invalid mode: bogus"),
    ({"VolumesFrom": [""]}, INVALID, "volumes-from specification cannot be an empty string"),
    ({"VolumeDriver": "nosuch", "Binds": ["v1:/v"]}, MISSING,
     'create v1: error looking up volume plugin nosuch: plugin "nosuch" not found'),
    ({"NetworkMode": "container:"}, INVALID,
     "invalid network mode: invalid container format container:<name|id>"),
    ({"NetworkMode": "container:o", "PublishAllPorts": True}, INVALID,
     "conflicting options: port publishing and the container type network mode"),
    ({"NetworkMode": "container:o", "Dns": ["1.1.1.1"]}, INVALID,
     "conflicting options: dns and the network mode"),
    ({"NetworkMode": "host", "Links": ["o:o"]}, INVALID, "conflicting options: host type networking can't be "
     "used with links. This would result in undefined behavior"),
    ({"Links": ["nosuch:x"]}, INVALID, "could not get container for nosuch: No such container: nosuch"),
    ({"PortBindings": {"80/tcp": [{"HostPort": "bogus"}]}}, INVALID, 'invalid port specification: "bogus"'),
    ({"PortBindings": {"80/tcp": [{"HostPort": "70000"}]}}, INVALID, 'invalid port specification: "70000"'),
    ({"PortBindings": {"80/tcp": [{"HostPort": "2-1"}]}}, INVALID, 'invalid port specification: "2-1"'),
    ({"PortBindings": {"0/tcp": [{}]}}, INVALID, 'invalid port specification: "0/tcp"'),
]  # fmt: skip

CONFIG: list[Case] = [
    ({"StopSignal": "BAD"}, INVALID, "invalid signal: BAD"),
    ({"WorkingDir": "rel"}, INVALID,
     "the working directory 'rel' is invalid, it needs to be an absolute path"),
    ({"Healthcheck": {"Interval": 1}}, INVALID, "Interval in Healthcheck cannot be less than 1ms"),
    ({"Env": ["=x"]}, INVALID, "invalid environment variable: =x"),
    ({"Image": "nosuch:1"}, MISSING, "No such image: nosuch:1"),
    ({"Image": ""}, INVALID, "no command specified"),
    ({"Entrypoint": [""]}, INVALID, "no command specified"),
    ({"Hostname": "h", "HostConfig": {"UTSMode": "host"}}, INVALID,
     "conflicting options: hostname and the UTS mode"),
]  # fmt: skip


@pytest.mark.parametrize(("host", "kind", "text"), HOST, ids=[str(case[0]) for case in HOST])
def test_host_config(world: World, host: dict[str, Any], kind: ErrorKind, text: str) -> None:
    with pytest.raises(WharfError) as raised:
        run(world.create({"Image": "busybox", "HostConfig": host}))
    assert (str(raised.value), raised.value.kind) == (text, kind)
    assert_nothing_is_left(world)


@pytest.mark.parametrize(("config", "kind", "text"), CONFIG, ids=[str(case[0]) for case in CONFIG])
def test_config(world: World, config: dict[str, Any], kind: ErrorKind, text: str) -> None:
    with pytest.raises(WharfError) as raised:
        run(world.create({"Image": "busybox", **config}))
    assert (str(raised.value), raised.value.kind) == (text, kind)
    assert_nothing_is_left(world)


def assert_nothing_is_left(world: World) -> None:
    assert not world.layers.known
    assert not world.volumes.known.keys() & world.volumes.anonymous
    assert not world.volumes.held
    assert not list(world.services.container_dir("x").parent.glob("*"))
    assert len(world.services.registry) == 0
    assert world.actions == []


@pytest.mark.parametrize(
    "host",
    [
        {"Ulimits": [{"Name": "bogus", "Soft": 1, "Hard": 1}]},
        {"Ulimits": [{"Name": "nofile", "Soft": 200, "Hard": 100}]},
        {"SecurityOpt": ["seccomp={"]},
        {"ConsoleSize": [1]},
        {"Sysctls": {"kernel.bogus": "1"}},
        {"CgroupParent": "/mine"},
        {"AutoRemove": True, "RestartPolicy": {"Name": "no"}},
        {"Binds": ["/a"]},
        {"Tmpfs": {"/t": "bogus"}},
        {"Tmpfs": {"/t": ""}, "Mounts": [{"Type": "tmpfs", "Target": "/t"}]},
        {"Mounts": [{"Type": "tmpfs", "Target": "/m", "TmpfsOptions": {"SizeBytes": -1}}]},
        {"NetworkMode": "nosuchnet"},
        {"NetworkMode": "container:nosuch"},
        {"DeviceCgroupRules": ["x 1:1 r"]},
        {"LogConfig": {"Config": {"max-size": "bogus"}}},
    ],
    ids=str,
)
def test_only_refused_at_start(world: World, host: dict[str, Any]) -> None:
    assert run(world.create({"Image": "busybox", "HostConfig": host})).warnings == []


def test_capabilities_that_are_not_there(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the engine has not it cannot give, nor take away."""
    monkeypatch.setattr(capabilities, "available", lambda: ("CAP_CHOWN",))
    for field in ("CapAdd", "CapDrop"):
        with pytest.raises(WharfError) as raised:
            run(world.create({"Image": "busybox", "HostConfig": {field: ["sys_resource"]}}))
        assert str(raised.value) == (
            f"invalid {field}: capability not supported by your kernel or not available in the current "
            'environment: "CAP_SYS_RESOURCE"'
        )
        assert raised.value.kind is INVALID


def test_interface_sysctls_of_old_clients_move_to_the_endpoint() -> None:
    host = HostConfig(network_mode="bridge", sysctls={"net.ipv4.conf.eth0.forwarding": "1", "net.a": "2"})
    endpoints: dict[str, EndpointSettings] = {}
    option = "com.docker.network.endpoint.sysctls"
    moved = "net.ipv4.conf.IFNAME.forwarding=1"
    assert adapt_sysctls(host, endpoints, (1, 47)) == [
        f'Migrated sysctl "net.ipv4.conf.eth0.forwarding" to DriverOpts{{"{option}":"{moved}"}}.'
    ]
    assert host.sysctls == {"net.a": "2"}
    assert endpoints["bridge"].driver_opts == {option: moved}
    host.sysctls = {"net.ipv4.conf.eth1.forwarding": "1"}
    with pytest.raises(WharfError, match="unable to determine network endpoint for sysctl"):
        adapt_sysctls(host, endpoints, (1, 47))
    host.network_mode = "host"
    assert adapt_sysctls(host, endpoints, (1, 50)) == []


def test_a_port_with_no_binding_is_bound_to_any(world: World) -> None:
    body = {"Image": "busybox", "HostConfig": {"PortBindings": {"80/tcp": [], "81/udp": None}}}
    assert run(world.create(body)).warnings == []
    reply = run(world.create(body, version=(1, 52)))
    assert reply.warnings == [
        "Following container port(s) have an empty list of port-bindings: 80/tcp, 81/udp. "
        "Such bindings will be discarded in a future version."
    ]
    host = world.services.registry.get(reply.id).definition.host_config
    assert host.port_bindings == {"80/tcp": [PortBinding()], "81/udp": [PortBinding()]}


def test_a_volume_driver_says_nothing_of_mounts(world: World) -> None:
    mount: dict[str, Any] = {"Type": "volume", "Source": "vv", "Target": "/m"}
    host = {"VolumeDriver": "local", "Mounts": [mount]}
    [warning] = run(world.create({"Image": "busybox", "HostConfig": host}, version=(1, 48))).warnings
    assert warning.startswith("WARNING: the container-wide volume-driver configuration is ignored")
    assert run(world.create({"Image": "busybox", "HostConfig": host}, version=(1, 47))).warnings == []
    mount["VolumeOptions"] = {"DriverConfig": {"Name": "local"}}
    assert run(world.create({"Image": "busybox", "HostConfig": host}, version=(1, 48))).warnings == []


def test_names(world: World) -> None:
    for name in ("x", "bad!", "-x"):
        with pytest.raises(WharfError, match=r"Invalid container name .*, only"):
            run(world.create({"Image": "busybox"}, name))
    made = run(world.create({"Image": "busybox"}, "xx"))
    with pytest.raises(WharfError) as raised:
        run(world.create({"Image": "busybox"}, "xx"))
    assert raised.value.kind is ErrorKind.CONFLICT
    assert f'The container name "/xx" is already in use by container "{made.id}"' in str(raised.value)


def test_a_failure_after_the_volumes_takes_them_away(world: World) -> None:
    world.layers.failing = WharfError("Cannot mkdir: /etc/passwd is not a directory")
    with pytest.raises(WharfError, match="Cannot mkdir"):
        run(world.create({"Image": "busybox", "WorkingDir": "/etc/passwd", "Volumes": {"/v": {}}}, "xx"))
    assert_nothing_is_left(world)
    world.layers.failing = None
    run(world.create({"Image": "busybox"}, "xx"))
