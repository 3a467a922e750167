"""Cgroup managers on directories that look like hierarchies; the kernel is not asked."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from services.containerd_shim.runtime.cgroups import base, devices_ebpf, hierarchies, v2_resources
from services.containerd_shim.runtime.cgroups.devices import v1_writes
from services.containerd_shim.runtime.cgroups.v1 import V1Manager
from services.containerd_shim.runtime.cgroups.v2 import V2Manager
from services.protocol import metrics, oci
from services.protocol.errors import InvalidParameter, Unimplemented

HYBRID = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
"""
UNIFIED = "41 31 0:38 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw,nsdelegate\n"
WITH_SYSTEMD_ONLY = UNIFIED + "40 31 0:37 / /x/systemd rw - cgroup cgroup rw,none,name=systemd\n"


def test_hybrid_hosts_use_version_1() -> None:
    found = hierarchies.parse(HYBRID)
    assert found.version == 1
    assert found.v2 == "/sys/fs/cgroup/unified"
    assert found.v1 == {
        "cpu": "/sys/fs/cgroup/cpu,cpuacct",
        "cpuacct": "/sys/fs/cgroup/cpu,cpuacct",
        "memory": "/sys/fs/cgroup/memory",
        "name=systemd": "/sys/fs/cgroup/systemd",
    }


@pytest.mark.parametrize("text", [UNIFIED, WITH_SYSTEMD_ONLY])
def test_unified_hosts_use_version_2(text: str) -> None:
    assert hierarchies.parse(text).version == 2


@pytest.mark.parametrize(
    ("path", "clean"),
    [("/docker/abc", "docker/abc"), ("docker//abc/.", "docker/abc"), ("", "the-id")],
)
def test_paths(path: str, clean: str) -> None:
    assert base.clean_path(path, "the-id") == clean


@pytest.mark.parametrize("path", ["/docker/../..", "..", "system.slice:docker:abc", "/"])
def test_bad_paths(path: str) -> None:
    with pytest.raises(InvalidParameter):
        base.clean_path(path, "id")


CONTROLLERS = ("cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids")


class V1:
    """A v1 tree on a temporary directory, with the files the kernel would make."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        for name in CONTROLLERS:
            (directory / name).mkdir()
        for file, text in (("cpuset.cpus", "0-1\n"), ("cpuset.mems", "0\n")):
            (directory / "cpuset" / file).write_text(text)
            for path in ("docker", "docker/abc"):
                (directory / "cpuset" / path).mkdir(parents=True, exist_ok=True)
                (directory / "cpuset" / path / file).write_text("")
        self.manager = V1Manager({name: str(directory / name) for name in CONTROLLERS}, "docker/abc")
        self.manager.create()

    def file(self, controller: str, name: str, text: str = "") -> Path:
        path = self.directory / controller / "docker/abc" / name
        path.write_text(text)
        return path


@pytest.fixture
def v1(tmp_path: Path) -> V1:
    return V1(tmp_path)


def test_v1_makes_every_directory_and_inherits_cpusets(v1: V1) -> None:
    for name in CONTROLLERS:
        assert (v1.directory / name / "docker/abc").is_dir()
    for path in ("docker", "docker/abc"):
        assert (v1.directory / "cpuset" / path / "cpuset.cpus").read_text() == "0-1"
        assert (v1.directory / "cpuset" / path / "cpuset.mems").read_text() == "0"


def test_v1_limits(v1: V1) -> None:
    limit = v1.file("memory", "memory.limit_in_bytes", "9223372036854771712")
    swap = v1.file("memory", "memory.memsw.limit_in_bytes")
    shares, quota = v1.file("cpu", "cpu.shares"), v1.file("cpu", "cpu.cfs_quota_us")
    period, pids = v1.file("cpu", "cpu.cfs_period_us"), v1.file("pids", "pids.max")
    throttle = v1.file("blkio", "blkio.throttle.read_bps_device")
    v1.manager.set(
        oci.Resources(
            memory=oci.Memory(limit=1000, swap=2000),
            cpu=oci.Cpu(shares=512, quota=-1, period=50000),
            pids=oci.Pids(limit=-1),
            block_io=oci.BlockIO(throttle_read_bps_device=[oci.ThrottleDevice(major=8, minor=0, rate=99)]),
        )
    )
    written = [path.read_text() for path in (swap, shares, quota, period, pids, throttle)]
    assert written == ["2000", "512", "-1", "50000", "max", "8:0 99"]
    assert limit.read_text().startswith("1000")


def test_v1_writes_memory_and_swap_in_the_order_the_kernel_accepts(
    v1: V1, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    monkeypatch.setattr(base, "write", lambda _directory, name, _value: order.append(name.split(".")[1]))
    v1.file("memory", "memory.limit_in_bytes", "9223372036854771712")
    v1.manager.set(oci.Resources(memory=oci.Memory(limit=1000, swap=2000)))
    v1.file("memory", "memory.limit_in_bytes", "1000")
    v1.manager.set(oci.Resources(memory=oci.Memory(limit=3000, swap=4000)))
    assert order == ["limit_in_bytes", "memsw", "memsw", "limit_in_bytes"]


def test_v1_devices(v1: V1, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    monkeypatch.setattr(base, "write", lambda _directory, name, value: lines.append(f"{name[8:]} {value}"))
    denied = oci.DeviceCgroup(allow=False)
    v1.manager.set(
        oci.Resources(devices=[denied, oci.DeviceCgroup(allow=True, type="c", major=10, access="r")])
    )
    # By number, those that are any before the others, as runc writes them.
    assert lines == ["deny a", "allow b *:* m", "allow c *:* m"] + [
        f"allow c {device}"
        for device in (
            "1:3 rwm", "1:5 rwm", "1:7 rwm", "1:8 rwm", "1:9 rwm", "5:0 rwm", "5:1 rwm", "5:2 rwm", "10:* r",
            "10:200 rwm", "136:* rwm",
        )
    ]  # fmt: skip
    lines.clear()
    v1.manager.set(oci.Resources(devices=[oci.DeviceCgroup(allow=True)]))
    assert lines == ["allow a"]


def allowed(*rules: tuple[bool, str, int | None, int | None, str]) -> list[str]:
    """What the rules add to the defaults."""
    default = v1_writes([oci.DeviceCgroup(allow=False)])
    given = [
        oci.DeviceCgroup(allow=allow, type=kind, major=major, minor=minor, access=access)
        for allow, kind, major, minor, access in rules
    ]
    written = v1_writes([oci.DeviceCgroup(allow=False), *given])
    return [text for file, text in written if (file, text) not in default]


def test_v1_devices_as_one_set() -> None:
    assert allowed((True, "c", 9, 9, "mr"), (True, "c", 9, 9, "w")) == ["c 9:9 rwm"]
    assert allowed((True, "c", 9, 9, "rwm"), (False, "c", 9, 9, "w")) == ["c 9:9 rm"]
    assert allowed((True, "c", 9, 9, "rwm"), (False, "c", 9, 9, "rwm")) == []
    assert allowed((True, "b", None, None, "rw")) == ["b *:* rwm"]
    with pytest.raises(base.RefusedError, match=r"cannot punch hole in existing wildcard rule \[c 9:\* rwm"):
        allowed((True, "c", 9, None, "rwm"), (False, "c", 9, 9, "w"))
    with pytest.raises(base.RefusedError, match="doesn't precisely match target"):
        allowed((True, "c", 9, 9, "x"))
    everything = [oci.DeviceCgroup(allow=True), oci.DeviceCgroup(allow=False, type="b", major=8, minor=0)]
    assert v1_writes(everything) == [("devices.allow", "a"), ("devices.deny", "b 8:0 rwm")]


def test_v1_refuses_what_it_cannot_do(v1: V1) -> None:
    with pytest.raises(InvalidParameter, match="unified"):
        v1.manager.set(oci.Resources(unified={"memory.max": "1"}))
    with pytest.raises(InvalidParameter, match="'hugetlb' is not mounted"):
        v1.manager.set(oci.Resources(hugepage_limits=[oci.HugepageLimit(page_size="2MB", limit=1)]))
    with pytest.raises(Unimplemented, match="network"):
        v1.manager.set(oci.Resources(network={"classID": 1}))


def test_v1_stats(v1: V1) -> None:
    v1.file("cpuacct", "cpuacct.usage", "123\n")
    v1.file("cpuacct", "cpuacct.usage_percpu", "100 23 \n")
    v1.file("cpuacct", "cpuacct.stat", "user 3\nsystem 4\n")
    v1.file("cpu", "cpu.stat", "nr_periods 5\nnr_throttled 6\nthrottled_time 7\n")
    v1.file("memory", "memory.usage_in_bytes", "4096\n")
    v1.file("memory", "memory.limit_in_bytes", "9223372036854771712\n")
    v1.file("memory", "memory.stat", "cache 8\nrss 9\n")
    v1.file("memory", "memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n")
    v1.file("pids", "pids.current", "3\n")
    v1.file("pids", "pids.max", "max\n")
    v1.file("blkio", "blkio.throttle.io_service_bytes_recursive", "8:0 Read 10\n8:0 Write 20\nTotal 30\n")
    counted = v1.manager.stats()
    assert (counted.cpu.total, counted.cpu.per_cpu) == (123, [100, 23])
    assert (counted.cpu.user, counted.cpu.kernel) == (30_000_000, 40_000_000)
    assert (counted.cpu.periods, counted.cpu.throttled_periods, counted.cpu.throttled_time) == (5, 6, 7)
    assert counted.memory.limit == counted.pids.limit == metrics.UNLIMITED
    assert counted.memory.stats == {"cache": 8, "rss": 9}
    assert [(entry.op, entry.value) for entry in counted.blkio.service_bytes] == [("Read", 10), ("Write", 20)]
    assert v1.manager.oom_kills() == 2


def test_v1_join_files_name_each_directory_once(tmp_path: Path) -> None:
    both = str(tmp_path / "cpu,cpuacct")
    manager = V1Manager({"cpu": both, "cpuacct": both}, "a")
    assert manager.join_files() == [f"{both}/a/tasks"]
    assert manager.mounts() == [("cpu,cpuacct", f"{both}/a")]


class V2:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        for path in ("", "docker"):
            (directory / path).mkdir(exist_ok=True)
            (directory / path / "cgroup.controllers").write_text("cpu memory pids\n")
            (directory / path / "cgroup.subtree_control").write_text("cpu\n")
        self.manager = V2Manager(str(directory), "docker/abc")
        self.manager.create()

    def file(self, name: str, text: str = "") -> Path:
        path = self.directory / "docker/abc" / name
        path.write_text(text)
        return path


@pytest.fixture
def v2(tmp_path: Path) -> V2:
    return V2(tmp_path)


def test_v2_delegates_controllers_down_to_the_container(v2: V2) -> None:
    for path in ("", "docker"):
        # Each is written by itself; a plain file keeps the last.
        assert (v2.directory / path / "cgroup.subtree_control").read_text().startswith("+pids")
    assert (v2.directory / "docker/abc").is_dir()


def test_v2_limits(v2: V2) -> None:
    names = (
        "memory.max",
        "memory.swap.max",
        "memory.low",
        "cpu.weight",
        "cpu.max",
        "pids.max",
        "io.max",
        "x.y",
    )
    files = {name: v2.file(name) for name in names}
    v2.manager.set(
        oci.Resources(
            memory=oci.Memory(limit=1000, swap=3000, reservation=500),
            cpu=oci.Cpu(shares=1024, quota=20000),
            pids=oci.Pids(limit=7),
            block_io=oci.BlockIO(throttle_write_iops_device=[oci.ThrottleDevice(major=8, minor=1, rate=5)]),
            unified={"x.y": "z"},
        )
    )
    assert [files[name].read_text() for name in names] == [
        "1000",
        "2000",
        "500",
        "39",
        "20000 100000",
        "7",
        "8:1 wiops=5",
        "z",
    ]


@pytest.mark.parametrize(("memory", "total", "swap"), [(100, 100, "0"), (100, -1, "max"), (100, 300, "200")])
def test_v2_swap(memory: int, total: int, swap: str) -> None:
    assert v2_resources.swap_limit(memory, total) == swap


@pytest.mark.parametrize(("memory", "total"), [(None, 100), (200, 100), (-1, 100)])
def test_v2_swap_without_meaning(memory: int | None, total: int) -> None:
    with pytest.raises(InvalidParameter):
        v2_resources.swap_limit(memory, total)


@pytest.mark.parametrize(("shares", "weight"), [(2, 1), (1024, 39), (262144, 10000), (1, 1)])
def test_v2_weight(shares: int, weight: int) -> None:
    assert v2_resources.weight_of_shares(shares) == weight


def test_v2_stats_and_oom(v2: V2) -> None:
    v2.file("cpu.stat", "usage_usec 5\nuser_usec 3\nsystem_usec 2\nthrottled_usec 1\n")
    v2.file("memory.current", "4096\n")
    v2.file("memory.max", "max\n")
    v2.file("memory.events", "oom 1\noom_kill 3\n")
    v2.file("pids.max", "12\n")
    v2.file("io.stat", "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0\n")
    counted = v2.manager.stats()
    assert (counted.cpu.total, counted.cpu.user, counted.cpu.throttled_time) == (5000, 3000, 1000)
    assert (counted.memory.usage, counted.memory.limit) == (4096, metrics.UNLIMITED)
    assert counted.pids.limit == 12
    assert [(entry.op, entry.value) for entry in counted.blkio.serviced] == [("read", 3), ("write", 4)]
    assert v2.manager.oom_kills() == 3


def test_v2_pause(v2: V2) -> None:
    freeze = v2.file("cgroup.freeze", "0\n")
    v2.file("cgroup.events", "populated 1\nfrozen 1\n")
    v2.manager.freeze(True)
    assert freeze.read_text().startswith("1")


def test_removal_takes_nested_cgroups_along(tmp_path: Path) -> None:
    (tmp_path / "a/b/c").mkdir(parents=True)
    base.remove_trees([str(tmp_path / "a"), str(tmp_path / "missing")])
    assert not (tmp_path / "a").exists()


RULE = oci.DeviceCgroup


def decide(rules: list[oci.DeviceCgroup], kind: int, access: int, major: int, minor: int) -> int:
    """An eBPF machine, as far as the device programs need one."""
    code = devices_ebpf.program(rules)
    instructions = [struct.unpack_from("=BBhi", code, offset) for offset in range(0, len(code), 8)]
    registers = [0] * 6
    context = {0: access << 16 | kind, 4: major, 8: minor}
    position = 0
    while True:
        op, where, offset, value = instructions[position]
        dst, src = where & 15, where >> 4
        position += 1
        if op == 0x61:
            registers[dst] = context[offset]
        elif op == 0x54:
            registers[dst] &= value
        elif op == 0x74:
            registers[dst] >>= value
        elif op == 0xBC:
            registers[dst] = registers[src]
        elif op == 0xB7:
            registers[dst] = value
        elif op == 0x95:
            return registers[0]
        else:
            other = registers[src] if op == 0x5D else value
            if (registers[dst] == other) == (op == 0x15):
                position += offset


BLOCK, CHAR = 1, 2
MKNOD, READ, WRITE = 1, 2, 4


@pytest.mark.parametrize(
    ("kind", "access", "major", "minor", "allowed"),
    [
        (CHAR, READ, 10, 237, 1),
        (CHAR, READ | WRITE, 10, 237, 0),
        (CHAR, READ, 10, 1, 0),
        (BLOCK, READ, 10, 237, 0),
        (CHAR, MKNOD, 99, 99, 1),
        (CHAR, READ | WRITE, 1, 3, 1),
        (CHAR, WRITE, 1, 5, 0),
        (CHAR, READ, 1, 5, 1),
    ],
)
def test_v2_device_program(kind: int, access: int, major: int, minor: int, allowed: int) -> None:
    rules = [
        RULE(allow=True, type="c", major=7),
        RULE(allow=False),
        RULE(allow=True, type="c", access="m"),
        RULE(allow=True, type="c", major=10, minor=237, access="r"),
        RULE(allow=True, type="c", major=1),
        RULE(allow=False, type="c", major=1, minor=5, access="w"),
    ]
    assert decide(rules, kind, access, major, minor) == allowed
    assert decide(rules, CHAR, READ, 7, 0) == 0


def test_v2_device_program_that_allows_everything() -> None:
    assert decide([RULE(allow=True)], BLOCK, READ | WRITE, 8, 0) == 1
    assert decide([], BLOCK, READ, 8, 0) == 0
