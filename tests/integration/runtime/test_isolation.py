"""What a container sees and what is kept from it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from services.protocol import oci
from services.protocol.errors import WharfError
from tests.harness.readiness import wait_until
from tests.integration.runtime.conftest import Box

NAMESPACES = ("mnt", "pid", "net", "uts", "ipc")


def mount_options(text: str) -> dict[str, set[str]]:
    """Mount point to options, from a container's mountinfo."""
    return {line.split()[4]: set(line.split()[5].split(",")) for line in text.splitlines() if " - " in line}


def mounts_of(box: Box) -> list[str]:
    """On the host, at or of what is the box's; others mount meanwhile."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if any(own in line for own in (str(box.bundle), str(box.layer), box.id))]


def test_namespaces_are_its_own(box: Box) -> None:
    result = box.sh("for n in mnt pid net uts ipc; do readlink /proc/self/ns/$n; done; hostname; echo $$")
    links = result.out.split()
    assert all(links[i] != os.readlink(f"/proc/self/ns/{name}") for i, name in enumerate(NAMESPACES))
    assert links[5:] == ["box", "1"]


def test_namespaces_not_named_are_the_hosts(box: Box) -> None:
    box.linux.namespaces = [oci.Namespace(type="mount")]
    box.spec.hostname = ""
    box.spec.mounts = [mount for mount in box.spec.mounts if mount.destination != "/sys"]
    result = box.sh("for n in pid net uts ipc; do readlink /proc/self/ns/$n; done")
    assert result.out.split() == [os.readlink(f"/proc/self/ns/{name}") for name in NAMESPACES[1:]]


def test_joins_a_namespace_by_path(box: Box, layer: Path, tmp_path: Path) -> None:
    box.start("sleep", "60")
    assert box.started is not None
    (tmp_path / "second").mkdir()
    other = Box(layer, tmp_path / "second")
    for namespace in other.linux.namespaces:
        if namespace.type in ("network", "ipc", "pid"):
            namespace.path = (
                f"/proc/{box.started.pid}/ns/{'net' if namespace.type == 'network' else namespace.type}"
            )
    result = other.sh("readlink /proc/self/ns/net; readlink /proc/self/ns/ipc; readlink /proc/1/ns/pid")
    expected = [os.readlink(f"/proc/{box.started.pid}/ns/{name}") for name in ("net", "ipc", "pid")]
    assert result.out.split() == expected


def test_no_descriptor_leaks(box: Box) -> None:
    extra = os.open("/", os.O_RDONLY)
    os.set_inheritable(extra, True)
    try:
        result = box.run("ls", "/proc/self/fd")
        # The last one is the directory being listed.
        assert result.out.split() == ["0", "1", "2", "3"]
    finally:
        os.close(extra)


def test_no_descriptor_leaks_into_exec(box: Box) -> None:
    box.start("sleep", "60")
    assert box.exec("ls", "/proc/self/fd").out.split() == ["0", "1", "2", "3"]
    assert box.exec("ls", "/proc/1/fd").out.split() == ["0", "1", "2"]


@pytest.mark.parametrize("number", range(3, 16))
def test_cwd_through_a_descriptor_is_refused(box: Box, number: int) -> None:
    """CVE-2024-21626: a working directory of the host by way of a leaked descriptor."""
    box.process.cwd = f"/proc/self/fd/{number}"
    with pytest.raises(WharfError):
        box.start("pwd")
    assert box.output == ""


def test_capabilities(box: Box) -> None:
    result = box.sh("grep -E '^Cap' /proc/self/status")
    assert dict(line.split(":\t") for line in result.out.splitlines()) == {
        "CapInh": "0000000000000000",
        "CapPrm": "00000000a80425fb",
        "CapEff": "00000000a80425fb",
        "CapBnd": "00000000a80425fb",
        "CapAmb": "0000000000000000",
    }


def test_ambient_capabilities_reach_a_user(box: Box) -> None:
    assert box.process.capabilities is not None
    for name in ("inheritable", "ambient"):
        setattr(box.process.capabilities, name, ["CAP_NET_BIND_SERVICE"])
    result = box.sh("grep -E '^Cap(Eff|Amb)' /proc/self/status", user="1000")
    assert result.out.split() == ["CapEff:", "0000000000000400", "CapAmb:", "0000000000000400"]


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("", ["0", "0", "0 10"]),
        ("1000", ["1000", "1001", "1001 3000"]),
        ("joe", ["1000", "1001", "1001 3000"]),
        ("joe:extra", ["1000", "3000", "3000"]),
        ("4242", ["4242", "0", "0"]),
        (":1001", ["0", "1001", "1001"]),
    ],
)
def test_users(box: Box, user: str, expected: list[str]) -> None:
    result = box.sh("id -u; id -g; grep ^Groups: /proc/self/status | cut -f2", user=user)
    assert [line.strip() for line in result.out.splitlines()] == expected


def test_user_without_privileges(box: Box) -> None:
    result = box.sh("grep -E '^Cap(Prm|Eff|Bnd)' /proc/self/status; echo $HOME; touch /x", user="joe")
    assert result.code == 1
    assert result.out.splitlines()[:4] == [
        "CapPrm:\t0000000000000000",
        "CapEff:\t0000000000000000",
        "CapBnd:\t00000000a80425fb",
        "/home/joe",
    ]


def test_seccomp_verdicts(box: Box) -> None:
    result = box.sh(
        "unshare -m true; mount -t tmpfs t /tmp; grep -E '^(Seccomp|NoNewPrivs):' /proc/self/status"
    )
    assert "unshare(0x20000): Operation not permitted" in result.out
    assert "NoNewPrivs:\t0\nSeccomp:\t2" in result.out


@pytest.mark.parametrize("no_new_privileges", [True, False])
def test_seccomp_of_the_spec(box: Box, no_new_privileges: bool) -> None:
    box.process.no_new_privileges = no_new_privileges
    rule = oci.SeccompRule(names=["mkdir", "mkdirat"], action="SCMP_ACT_ERRNO", errno_ret=38)
    box.linux.seccomp = oci.Seccomp(default_action="SCMP_ACT_ALLOW", syscalls=[rule])
    result = box.sh("mkdir /tmp/x; grep ^NoNewPrivs: /proc/self/status", user="1000")
    assert "Function not implemented" in result.out
    assert f"NoNewPrivs:\t{int(no_new_privileges)}" in result.out


def test_unconfined(box: Box) -> None:
    box.linux.seccomp = None
    assert box.sh("grep ^Seccomp: /proc/self/status").out == "Seccomp:\t0\n"


def test_masked_and_read_only_paths(box: Box) -> None:
    box.linux.masked_paths += ["/etc/passwd", "/usr", "/nosuch"]
    result = box.sh(
        "cat /etc/passwd /proc/keys | wc -c; ls /usr /sys/firmware | grep -vc :; stat -c %t:%T /proc/keys; "
        "echo x > /proc/sys/kernel/hostname; mkdir /sys/x; mkdir /sys/fs/cgroup/x; cat /proc/self/mountinfo"
    )
    assert result.out.startswith("0\n1\n1:3\n")
    assert result.out.count("Read-only file system") == 3
    options = mount_options(result.out)
    for path in ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys"):
        assert options[path] == {"ro", "nosuid", "nodev", "noexec", "relatime"}


def test_read_only_root_leaves_its_mounts_writable(box: Box) -> None:
    assert box.spec.root is not None
    box.spec.root.readonly = True
    box.process.cwd = "/made/for/me"
    result = box.sh("pwd; touch /x; touch /dev/shm/x && echo shm; touch /dev/x && echo dev")
    assert result.out == "/made/for/me\ntouch: /x: Read-only file system\nshm\ndev\n"


def test_devices(box: Box) -> None:
    box.linux.devices = [oci.Device(path="/dev/mine", type="c", major=1, minor=3, file_mode=0o640, gid=29)]
    result = box.sh(
        "ls /dev | tr '\\n' ' '; echo; stat -c '%a %u:%g %t:%T' /dev/mine; mknod /tmp/k c 10 237; : < /tmp/k"
    )
    lines = result.out.splitlines()
    names = "fd full mine mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero"
    assert " ".join(sorted(set(lines[0].split()) - {"core"})) == names
    assert lines[1] == "640 0:29 1:3"
    assert "Operation not permitted" in lines[2]


def test_device_rules(box: Box) -> None:
    assert box.linux.resources is not None
    box.linux.resources.devices.append(
        oci.DeviceCgroup(allow=True, type="c", major=10, minor=237, access="rm")
    )
    result = box.sh("mknod /tmp/k c 10 237; : < /tmp/k && echo read; : >> /tmp/k")
    assert result.out.startswith("read\n")
    assert "Operation not permitted" in result.out


def test_symlinks_in_the_root_lead_nowhere(box: Box, tmp_path: Path) -> None:
    """Mount destinations, devices and the working directory behind links to the host."""
    outside = tmp_path / "outside"
    outside.mkdir()
    upper = box.bundle / "upper"
    (upper / "escape").symlink_to(outside)
    (upper / "up").symlink_to("../../../../../../../.." + str(outside))
    (upper / "dangling").symlink_to("/made/by/link")
    (tmp_path / "file").write_text("mounted")
    for destination in ("/escape/f", "/up/g", "/dangling/h"):
        mount = oci.Mount(
            destination=destination, type="bind", source=str(tmp_path / "file"), options=["rbind", "ro"]
        )
        box.spec.mounts.append(mount)
    box.spec.mounts.append(oci.Mount(destination="/escape/t", type="tmpfs", source="tmpfs"))
    box.linux.devices = [oci.Device(path="/escape/null", type="c", major=1, minor=3)]
    box.process.cwd = "/escape/cwd"
    result = box.sh("cat /escape/f /up/g /made/by/link/h; pwd -P; readlink -f /escape")
    assert result.out == f"mountedmountedmounted{outside}/cwd\n{outside}\n"
    assert list(outside.iterdir()) == []


def test_proc_may_not_be_a_link(box: Box) -> None:
    (box.bundle / "upper/proc").symlink_to("/tmp")
    with pytest.raises(WharfError, match="must be mounted on ordinary directory"):
        box.create("true")


def test_nothing_mounts_over_proc(box: Box, tmp_path: Path) -> None:
    (tmp_path / "fake").mkdir()
    mount = oci.Mount(destination="/proc/self/attr", type="bind", source=str(tmp_path / "fake"))
    box.spec.mounts.append(mount)
    with pytest.raises(WharfError, match="cannot be mounted because it is inside /proc"):
        box.create("true")


def test_waiting_init_cannot_be_inspected(box: Box) -> None:
    """Until execve it is not dumpable, so its executable is out of the container's reach (CVE-2019-5736)."""
    box.linux.namespaces.append(oci.Namespace(type="user"))
    box.linux.uid_mappings = [oci.IDMapping(container_id=0, host_id=100000, size=65536)]
    box.linux.gid_mappings = [oci.IDMapping(container_id=0, host_id=100000, size=65536)]
    container = box.create("sleep", "60")
    # proc(5): the files of a process that is not dumpable belong to root, whoever it runs as.
    assert os.stat(f"/proc/{container.pid}/environ").st_uid == 0
    container.start(None)
    # execve closes descriptors, which is what start waits for, a little before that.
    wait_until(lambda: os.stat(f"/proc/{container.pid}/environ").st_uid == 100000, "it is dumpable")


def test_interpreter_cannot_be_overwritten() -> None:
    code = (
        "import os, sys\n"
        "from services.containerd_shim.runtime import selfexe\n"
        "if not selfexe.is_read_only():\n"
        "    selfexe.exec_read_only([sys.executable, *sys.orig_argv[1:]])\n"
        "pid = os.fork()\n"
        "exe = f'/proc/{os.getppid()}/exe' if pid == 0 else ''\n"
        "try:\n"
        "    pid == 0 and open(exe, 'r+b')\n"
        "except OSError as error:\n"
        "    print(error.strerror)\n"
        "pid == 0 or os.waitpid(pid, 0)\n"
        "print(sys.prefix)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert lines[0] in ("Text file busy", "Read-only file system")
    assert lines[1:] == [sys.prefix, sys.prefix]


def test_binds(box: Box, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "f").write_text("hello\n")

    def bind(destination: str, *options: str) -> None:
        box.spec.mounts.append(
            oci.Mount(destination=destination, type="bind", source=str(source), options=["rbind", *options])
        )

    bind("/rw", "rprivate")
    bind("/ro", "ro", "rprivate", "nosuid", "nodev", "noexec")
    bind("/deep/new/dir", "rro")
    result = box.sh("cat /rw/f; echo x > /rw/g; touch /ro/h /deep/new/dir/h; cat /proc/self/mountinfo")
    assert result.out.startswith("hello\n")
    assert result.out.count("Read-only file system") == 2
    assert (source / "g").read_text() == "x\n"
    options = mount_options(result.out)
    assert {"ro", "nosuid", "nodev", "noexec"} <= options["/ro"]
    assert "rw" in options["/rw"] and "ro" in options["/deep/new/dir"]


def test_tmpfs_takes_the_mode_of_what_it_covers(box: Box) -> None:
    (box.bundle / "upper/d").mkdir(mode=0o750)
    for destination, options in (("/d", ["ro"]), ("/t", ["size=1m", "uid=5"]), ("/c", ["tmpcopyup"])):
        box.spec.mounts.append(
            oci.Mount(destination=destination, type="tmpfs", source="tmpfs", options=options)
        )
    (box.bundle / "upper/c/sub").mkdir(parents=True)
    (box.bundle / "upper/c/sub/f").write_text("copied\n")
    (box.bundle / "upper/c/link").symlink_to("/etc/passwd")
    result = box.sh("stat -c '%a %u' /d /t; touch /d/x; cat /c/sub/f; readlink /c/link")
    lines = result.out.splitlines()
    assert lines[:2] == ["750 0", "1777 5"]
    assert "Read-only file system" in lines[2]
    assert lines[3:] == ["copied", "/etc/passwd"]


def test_part_of_a_file_system(box: Box, tmp_path: Path) -> None:
    """``X-mount.subdir``: its links end inside it, whatever they say."""
    for name in ("one/dir", "two", "changed", "scratch"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "one/dir/f").write_text("one\n")
    (tmp_path / "two/hostname").write_text("two\n")
    (tmp_path / "two/out").symlink_to("../../../../../../hostname")
    (tmp_path / "two/by").symlink_to("/dir")
    lower = f"lowerdir={tmp_path}/two:{tmp_path}/one"
    writable = [f"upperdir={tmp_path}/changed", f"workdir={tmp_path}/scratch"]
    for destination, options in (
        ("/file", [lower, "ro", "X-mount.subdir=out"]),
        ("/dir", [lower, "ro", "X-mount.subdir=/by"]),
        ("/rw", [lower, *writable, "X-mount.subdir=/by"]),
        ("/whole", [lower, "ro", "X-mount.subdir=/"]),
    ):
        box.spec.mounts.append(
            oci.Mount(destination=destination, type="overlay", source="overlay", options=options)
        )
    bind = ["bind", "ro", "X-mount.subdir=/../out"]
    box.spec.mounts.append(
        oci.Mount(destination="/bound", type="bind", source=str(tmp_path / "two"), options=bind)
    )
    before = mounts_of(box)
    result = box.sh(
        "cat /file /dir/f /whole/hostname /bound; echo new >/rw/new; touch /dir/x /whole/x /bound; ls /dir"
    )
    lines = result.out.splitlines()
    assert lines[:4] == ["two", "one", "two", "two"]
    assert result.out.count("Read-only file system") == 3 and lines[-1] == "f"
    assert (tmp_path / "changed/dir/new").read_text() == "new\n"
    assert mounts_of(box) == before


def test_missing_part_of_a_file_system(box: Box, tmp_path: Path) -> None:
    options = ["bind", "X-mount.subdir=nothing"]
    box.spec.mounts.append(oci.Mount(destination="/x", type="bind", source=str(tmp_path), options=options))
    with pytest.raises(WharfError, match="no such file or directory"):
        box.sh("true")


def test_sysctls_and_limits(box: Box) -> None:
    box.linux.sysctl = {"net.core.somaxconn": "256", "kernel.msgmax": "4096"}
    box.process.rlimits = [oci.Rlimit(type="RLIMIT_NOFILE", soft=100, hard=200)]
    box.process.oom_score_adj = 500
    result = box.sh(
        "cat /proc/sys/net/core/somaxconn /proc/sys/kernel/msgmax /proc/self/oom_score_adj; "
        "ulimit -Sn; ulimit -Hn"
    )
    assert result.out.split() == ["256", "4096", "500", "100", "200"]


def test_user_namespace(box: Box) -> None:
    box.linux.namespaces.append(oci.Namespace(type="user"))
    box.linux.uid_mappings = [oci.IDMapping(container_id=0, host_id=100000, size=65536)]
    box.linux.gid_mappings = [oci.IDMapping(container_id=0, host_id=100000, size=65536)]
    box.bundle.parent.chmod(0o700)
    box.linux.cgroups_path += "-user"
    container = box.start(
        "sh", "-c", "id -u; cat /proc/self/uid_map; ls -ln /dev/null; echo x > /dev/null; sleep 300"
    )
    assert box.started is not None
    assert os.stat(f"/proc/{box.started.pid}").st_uid == 100000
    assert box.exec("id", "-u").out == "0\n"
    assert container.alive()
    wait_until(lambda: "/dev/null\n" in box.output, "it has looked around")
    assert box.output.split()[:4] == ["0", "0", "100000", "65536"]


def test_no_mount_is_left_on_the_host(box: Box) -> None:
    before = mounts_of(box)
    box.start("sleep", "60")
    assert mounts_of(box) == before
    box.close()
    assert mounts_of(box) == before
