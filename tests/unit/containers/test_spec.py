"""The OCI document, mounts and execs made of a definition."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from services.engine.containers import spec_process
from services.engine.containers.capabilities import resolve
from services.engine.containers.model import ContainerMount, Entry, Exec, MountKind
from services.engine.containers.mount_sources import volume_source
from services.engine.containers.mounts import prepare_mounts, release_mounts
from services.engine.containers.mounts_default import merge_options
from services.engine.containers.spec import build_spec, cgroups_path
from services.engine.containers.spec_devices import devices_of, parse_rule
from services.engine.containers.spec_exec import build_process
from services.engine.containers.spec_process import merge_environment
from services.engine.containers.spec_resources import memory
from services.engine.containers.spec_seccomp import convert
from services.protocol import oci
from services.protocol.api.containers import HostConfig
from services.protocol.errors import InvalidParameter, SystemError_
from tests.unit.containers.world import PATH, World, run


async def spec_of(world: World, entry: Entry) -> oci.Spec:
    mounts, _ = await prepare_mounts(world.services, entry)
    return build_spec(world.services, entry, mounts=mounts)


def made_spec(world: World, body: dict[str, Any] | None = None) -> oci.Spec:
    return run(spec_of(world, run(world.made(body))))


def by_destination(spec: oci.Spec) -> dict[str, oci.Mount]:
    return {mount.destination: mount for mount in spec.mounts}


def test_plain_container(world: World) -> None:
    entry = run(world.made({"Cmd": ["true"], "Hostname": "h", "Domainname": "d"}))
    spec = run(spec_of(world, entry))
    assert spec.process is not None and spec.linux is not None
    assert spec.process.args == ["true"]
    assert spec.process.env == [PATH, "HOSTNAME=h"]
    assert (spec.hostname, spec.domainname, spec.process.cwd) == ("h", "d", "/")
    assert {space.type for space in spec.linux.namespaces} >= {"mount", "uts", "network", "ipc", "pid"}
    assert spec.linux.seccomp == oci.Seccomp(default_action="default")
    assert spec.linux.cgroups_path == f"/docker/{entry.id}"
    assert spec.linux.resources is not None
    assert spec.linux.resources.memory is None and spec.linux.resources.cpu is None
    assert not spec.linux.resources.devices[0].allow
    mounts = by_destination(spec)
    assert {"/proc", "/dev", "/dev/pts", "/sys", "/sys/fs/cgroup", "/dev/mqueue", "/dev/shm"} <= mounts.keys()
    assert "size=67108864" in mounts["/dev/shm"].options
    assert mounts["/etc/hosts"].source == f"{world.services.container_dir(entry.id)}/hosts"


def test_environment_entries_without_a_value_remove(world: World) -> None:
    assert merge_environment(["PATH=/bin", "HOSTNAME=h"], ["PATH", "K=v", "K=w", "NOEQ"]) == [
        "HOSTNAME=h",
        "K=w",
    ]
    assert merge_environment(["A=1"], ["K=v", "L=x", "K=w", "K", "A=2"]) == ["A=2", "L=x", "K=w"]


def test_privileged(world: World) -> None:
    spec = made_spec(world, {"HostConfig": {"Privileged": True}})
    assert spec.linux is not None and spec.process is not None and spec.process.capabilities is not None
    assert spec.linux.seccomp is None
    assert spec.linux.masked_paths == spec.linux.readonly_paths == []
    assert "CAP_SYS_ADMIN" in spec.process.capabilities.bounding
    assert "ro" not in by_destination(spec)["/sys"].options
    assert spec.linux.resources is not None and spec.linux.resources.devices == [
        oci.DeviceCgroup(allow=True, type="a", access="rwm")
    ]


def test_read_only_root(world: World) -> None:
    host = {"ReadonlyRootfs": True, "Tmpfs": {"/tmp": ""}}
    mounts = by_destination(made_spec(world, {"HostConfig": host}))
    assert "ro" in mounts["/etc/hosts"].options
    assert "ro" in mounts["/sys"].options
    assert all("ro" not in mounts[path].options for path in ("/tmp", "/dev", "/dev/shm", "/proc"))


def test_ipc_modes(world: World) -> None:
    assert "/dev/shm" not in by_destination(made_spec(world, {"HostConfig": {"IpcMode": "none"}}))
    host = made_spec(world, {"HostConfig": {"IpcMode": "host"}})
    assert by_destination(host)["/dev/shm"].source == "/dev/shm"
    assert host.linux is not None
    assert "ipc" not in {space.type for space in host.linux.namespaces}
    own = {"IpcMode": "none", "Binds": ["vol:/dev/shm"]}
    assert by_destination(made_spec(world, {"HostConfig": own}))["/dev/shm"].type == "bind"


def test_user_mounts_replace_and_are_ordered_by_depth(world: World, tmp_path: Path) -> None:
    host = {"Binds": [f"{tmp_path}:/a/b/c", f"{tmp_path}:/a", f"{tmp_path}:/etc/hosts:ro"]}
    spec = made_spec(world, {"HostConfig": host})
    destinations = [mount.destination for mount in spec.mounts]
    assert destinations.index("/a") < destinations.index("/a/b/c")
    assert destinations.count("/etc/hosts") == 1
    assert by_destination(spec)["/etc/hosts"].options == ["rbind", "ro", "rro", "rprivate"]


def test_bind_source_is_made_for_v_only(world: World, tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    entry = run(world.made({"HostConfig": {"Binds": [f"{missing}:/m"]}}))
    assert not missing.exists()
    run(spec_of(world, entry))
    assert missing.is_dir()
    mount = {"Type": "bind", "Source": str(missing), "Target": "/m"}
    entry = run(world.made({"HostConfig": {"Mounts": [mount]}}))
    missing.rmdir()
    with pytest.raises(InvalidParameter, match=f"bind source path does not exist: {missing}"):
        run(spec_of(world, entry))


def test_volumes_are_held_until_released_and_given_back_on_failure(world: World, tmp_path: Path) -> None:
    entry = run(world.made({"HostConfig": {"Binds": ["vol:/v"]}}))
    _, release = run(prepare_mounts(world.services, entry))
    assert world.volumes.held == {("vol", entry.id)}
    run(release())  # type: ignore[arg-type]
    assert not world.volumes.held
    entry.definition.mounts.append(
        ContainerMount(kind=MountKind.BIND, source=str(tmp_path / "no"), destination="/x")
    )
    with pytest.raises(InvalidParameter):
        run(prepare_mounts(world.services, entry))
    assert not world.volumes.held
    run(release_mounts(world.services, entry))


def test_subpaths_stay_inside_their_volume(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "out").symlink_to("/")
    assert volume_source(str(tmp_path), "a") == str(tmp_path / "a")
    with pytest.raises(SystemError_, match=f"cannot access path {tmp_path}/a/none: no such file"):
        volume_source(str(tmp_path), "a/none")
    with pytest.raises(SystemError_, match="escapes the base directory"):
        volume_source(str(tmp_path), "out")


def test_tmpfs_options() -> None:
    base = ["noexec", "nosuid", "nodev", "rprivate"]
    assert merge_options([*base, "rw", "exec", "suid", "dev"]) == ["rprivate", "rw", "exec", "suid", "dev"]
    assert merge_options([*base, "size=1m", "size=2m"])[-1] == "size=2m"
    with pytest.raises(InvalidParameter, match='invalid tmpfs option "bogus"'):
        merge_options(["bogus=1"])


def test_sysctls_of_the_host_are_refused(world: World) -> None:
    host = {"NetworkMode": "host", "Sysctls": {"net.ipv4.ip_forward": "1"}}
    with pytest.raises(SystemError_, match="not allowed in host network namespace"):
        made_spec(world, {"HostConfig": host})


def test_limits(world: World) -> None:
    host = {"Memory": 64 << 20, "NanoCpus": 500_000_000, "PidsLimit": 7, "Ulimits": [
        {"Name": "core", "Soft": -1, "Hard": -1}]}  # fmt: skip
    spec = made_spec(world, {"HostConfig": host})
    assert spec.linux is not None and spec.linux.resources is not None and spec.process is not None
    resources = spec.linux.resources
    assert resources.memory is not None and resources.memory.limit == 64 << 20
    assert resources.memory.swap in (128 << 20, -1)  # -1: the kernel cannot limit swap
    assert resources.cpu is not None and (resources.cpu.quota, resources.cpu.period) == (50_000, 100_000)
    assert resources.pids == oci.Pids(limit=7)
    assert spec.process.rlimits[0] == oci.Rlimit(type="RLIMIT_CORE", soft=2**64 - 1, hard=2**64 - 1)


def test_capabilities() -> None:
    assert "CAP_NET_ADMIN" in resolve(["net_admin"], [], privileged=False)
    assert resolve(["CHOWN"], ["ALL"], privileged=False) == ["CAP_CHOWN"]
    assert "CAP_KILL" not in resolve(["ALL"], ["KILL"], privileged=False)
    assert "CAP_CHOWN" not in resolve([], ["cap_chown"], privileged=False)


def test_devices() -> None:
    node = devices_of("/dev/null", "/dev/mine")[0]
    assert (node.path, node.type, node.major, node.minor) == ("/dev/mine", "c", 1, 3)
    with pytest.raises(SystemError_, match='custom device "/dev/nosuch": no such file or directory'):
        devices_of("/dev/nosuch", "/dev/x")
    with pytest.raises(SystemError_, match="not a device node"):
        devices_of("/etc/passwd", "/dev/x")
    assert parse_rule("c 1:* rmw") == oci.DeviceCgroup(allow=True, type="c", major=1, access="rmw")
    with pytest.raises(SystemError_, match="invalid device cgroup rule format: 'x 1:1 r'"):
        parse_rule("x 1:1 r")


def test_init_among_programs_that_are_no_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "docker-init"
    program.touch(mode=0o755)
    monkeypatch.setattr(spec_process, "_INTERNAL", str(tmp_path))
    assert spec_process.init_mount().source == str(program)


def test_links_to_devices(tmp_path: Path) -> None:
    """Followed into /dev only: who names a device need not be who made the link."""
    (tmp_path / "all").mkdir()
    (tmp_path / "all" / "null").symlink_to("/dev/null")
    (tmp_path / "all" / "passwd").symlink_to("/etc/passwd")
    (tmp_path / "elsewhere").symlink_to(tmp_path / "all")
    assert [node.path for node in devices_of(str(tmp_path / "all"), "/dev/mine")] == ["/dev/mine/null"]
    assert devices_of(str(tmp_path / "all/null"), "/dev/x")[0].minor == 3
    with pytest.raises(SystemError_, match="not a device node"):
        devices_of(str(tmp_path / "elsewhere"), "/dev/x")


def test_parents_of_cgroups_stay_below_the_root(world: World) -> None:
    for parent, path in (("/a/../../b", "/b"), ("../c", "/c"), ("d//e/", "/d/e"), ("..", "")):
        entry = run(world.made({"HostConfig": {"CgroupParent": parent}}))
        assert cgroups_path(world.services, entry.definition) == f"{path}/{entry.id}"


def test_swap_is_a_number_of_64_bits(world: World) -> None:
    """Twice the memory, where Docker's arithmetic goes round; what is less than -1 says nothing."""
    host = run(world.made({"HostConfig": {"Memory": 2**63 - 1}})).definition.host_config
    assert host.memory_swap == -2
    swaps = [memory(HostConfig(memory=2**26, memory_swap=swap)) for swap in (-2, -1, 0, 2**27)]
    assert [found.swap for found in swaps if found] == [None, -1, None, 2**27]


def test_seccomp_profile_conditions() -> None:
    profile = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
        "syscalls": [
            {"names": ["read"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"names": ["new"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "99.0"}},
            {"names": ["odd"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["s390"]}},
        ],
    }
    plain = convert(json.dumps(profile), ["CAP_CHOWN"])
    assert plain is not None
    assert [rule.names for rule in plain.syscalls] == [["read"], ["clone"]]
    admin = convert(json.dumps(profile), ["CAP_SYS_ADMIN"])
    assert admin is not None
    assert [rule.names for rule in admin.syscalls] == [["read"], ["mount"]]
    if os.uname().machine == "x86_64":
        assert plain.architectures == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]
    assert convert("{}", []) is None
    with pytest.raises(SystemError_, match="Decoding seccomp profile failed"):
        convert("{", [])


def test_exec(world: World) -> None:
    entry = run(world.made({"User": "nobody", "WorkingDir": "/w", "Env": ["A=1", "B=1"]}))
    exec_ = Exec(
        id="e", container_id=entry.id, path="sh", args=["-c", "x"], env=["B=2"], tty=True, user="",
        working_dir="", privileged=True, attach_stdin=False, attach_stdout=True, attach_stderr=True,
        detach_keys="", console_size=(3, 4),
    )  # fmt: skip
    process, user = build_process(world.services, entry, exec_)
    assert process.args == ["sh", "-c", "x"]
    assert {"A=1", "B=2", "TERM=xterm"} <= set(process.env)
    assert process.cwd == "/w"
    assert user.user == "nobody"
    assert process.capabilities is not None and "CAP_SYS_ADMIN" in process.capabilities.effective
    assert process.console_size == oci.Box(height=3, width=4)
