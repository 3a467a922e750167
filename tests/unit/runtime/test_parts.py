"""The runtime's pure parts: options, limits, paths, texts, capabilities."""

from __future__ import annotations

import ctypes
import errno
import importlib
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from services.containerd_shim.runtime import (
    caps,
    execpath,
    failures,
    idmap,
    inroot,
    mounts,
    network,
    process,
    rlimits,
    sync,
    sysctls,
)
from services.containerd_shim.runtime import syscall as sc
from services.containerd_shim.runtime.command import updating
from services.protocol import oci
from services.protocol.errors import InvalidParameter, SystemError_, Unimplemented, WharfError


def parse(*options: str, kind: str = "tmpfs") -> mounts.MountPlan:
    return mounts.parse(oci.Mount(destination="/x", type=kind, source="s", options=list(options)))


def test_mount_flags() -> None:
    plan = parse("nosuid", "noexec", "ro", "rw", "mode=755", "size=1k", "rslave", "strictatime")
    assert plan.flags == sc.MS_NOSUID | sc.MS_NOEXEC | sc.MS_STRICTATIME
    assert plan.attributes == sc.MOUNT_ATTR_NOSUID | sc.MOUNT_ATTR_NOEXEC | sc.MOUNT_ATTR_STRICTATIME
    assert plan.superblock_options == ["mode=755", "size=1k"]
    assert plan.propagation == [(sc.MS_SLAVE, True)]


def test_bind_options() -> None:
    plan = parse("rbind", "rro", "rnosuid", "rsuid", "tmpcopyup", kind="none")
    assert plan.bind and plan.recursive and plan.copy_up
    assert plan.recursive_set == sc.MOUNT_ATTR_RDONLY
    assert plan.recursive_clear == sc.MOUNT_ATTR_NOSUID
    assert parse(kind="bind").bind


def test_mounts_that_are_not_there() -> None:
    with pytest.raises(Unimplemented, match="idmap"):
        parse("ridmap")
    mapping = [oci.IDMapping(container_id=0, host_id=1, size=1)]
    with pytest.raises(Unimplemented, match="id-mapped"):
        mounts.parse(oci.Mount(destination="/x", uid_mappings=mapping))


def test_capability_masks() -> None:
    assert caps.mask(["CAP_CHOWN", "CAP_KILL"]) == 0b100001
    assert caps.NAMES.index("CAP_SYS_ADMIN") == 21 and len(caps.NAMES) == 41
    with pytest.raises(InvalidParameter, match="CAP_BOGUS"):
        caps.mask(["CAP_BOGUS"])


def test_rlimits() -> None:
    parsed = rlimits.parse(
        [
            oci.Rlimit(type="RLIMIT_NOFILE", soft=1, hard=(1 << 64) - 1),
            oci.Rlimit(type="RLIMIT_LOCKS", soft=-1, hard=5),
        ]
    )
    assert parsed == [
        (resource.RLIMIT_NOFILE, 1, resource.RLIM_INFINITY),
        (10, resource.RLIM_INFINITY, 5),
    ]
    for name in ("RLIMIT_BOGUS", "struct_rusage"):
        with pytest.raises(SystemError_, match=f"runc create failed: wrong rlimit value: {name}"):
            rlimits.parse([oci.Rlimit(type=name, soft=1, hard=1)])


@pytest.mark.parametrize(
    ("key", "namespaces", "text"),
    [
        ("net.ipv4.ip_forward", sc.CLONE_NEWNET, ""),
        ("net.ipv4.ip_forward", sc.CLONE_NEWIPC, "not allowed in host network namespace"),
        ("kernel.msgmax", sc.CLONE_NEWIPC, ""),
        ("fs/mqueue/msg_max", sc.CLONE_NEWNET, "is not allowed in the hosts ipc namespace"),
        ("kernel.domainname", sc.CLONE_NEWUTS, ""),
        ("kernel.domainname", sc.CLONE_NEWNET, "is not in a separate kernel namespace"),
        ("kernel.hostname", sc.CLONE_NEWUTS, 'conflicts with the OCI "hostname" field'),
        ("kernel.bogus", sc.CLONE_NEWUTS, "is not in a separate kernel namespace"),
    ],
)
def test_sysctls_of_own_namespaces(key: str, namespaces: int, text: str) -> None:
    if not text:
        sysctls.check([key], namespaces)
        return
    with pytest.raises(SystemError_, match=f"runc create failed: sysctl .*{text}"):
        sysctls.check([key], namespaces)


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("net.ipv4.ip_forward", "net/ipv4/ip_forward"),
        ("net/ipv4/ip_forward", "net/ipv4/ip_forward"),
        ("net.ipv4.conf.eth0/100.forwarding", "net/ipv4/conf/eth0.100/forwarding"),
        ("net/ipv4/conf/eth0.100/forwarding", "net/ipv4/conf/eth0.100/forwarding"),
    ],
)
def test_sysctl_paths(key: str, path: str) -> None:
    assert network.sysctl_path(key) == path


@pytest.mark.parametrize("key", ["", "/etc/passwd", "net/../../etc"])
def test_sysctls_stay_below_proc_sys(key: str) -> None:
    with pytest.raises(OSError, match="invalid sysctl name"):
        network.sysctl_path(key)


def test_interface_sysctls() -> None:
    assert network.is_interface_sysctl("net.ipv6.conf.eth0.disable_ipv6")
    assert not network.is_interface_sysctl("net.ipv6.conf.all.disable_ipv6")
    assert not network.is_interface_sysctl("kernel.msgmax")


def test_idmaps_are_needed() -> None:
    with pytest.raises(InvalidParameter, match="no uid or gid mappings"):
        idmap.check([], [])


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("open /x: no such file or directory", 127),
        ("x: not a directory", 127),
        ("open /x: permission denied", 126),
        ("device or resource busy", 128),
    ],
)
def test_exit_codes_of_texts(text: str, code: int) -> None:
    assert failures.of_init(SystemError_(text), is_exec=False).exit_code == code


def test_texts_of_users_have_no_prefix() -> None:
    for is_exec, code in ((False, None), (True, 126)):
        error = failures.of_init(InvalidParameter("unable to find user x"), is_exec=is_exec)
        assert str(error) == "unable to find user x" and error.exit_code == code


def test_program_lookup(tmp_path: Path) -> None:
    tool = tmp_path / "tool"
    tool.write_text("")
    with pytest.raises(WharfError, match=f'exec: "{tool}": permission denied') as caught:
        execpath.find(str(tool), None)
    assert caught.value.exit_code == 126
    tool.chmod(0o755)
    assert execpath.find("tool", f"/nosuch:{tmp_path}") == str(tool)
    for path in (None, "", "/nosuch"):
        with pytest.raises(WharfError, match="executable file not found in"):
            execpath.find("tool", path)


def test_paths_in_a_hostile_root(tmp_path: Path) -> None:
    root_path, outside = tmp_path / "root", tmp_path / "outside"
    root_path.mkdir()
    outside.mkdir()
    (root_path / "absolute").symlink_to("/inner")
    (root_path / "climb").symlink_to(f"../../..{outside}")
    (root_path / "loop").symlink_to("loop")
    root = os.open(root_path, os.O_PATH | os.O_DIRECTORY)
    try:
        for path in ("/absolute/a/b", "/climb/c", "/x/../../../y"):
            os.close(inroot.make_dir(root, path))
        os.close(inroot.make_file(root, "/absolute/f"))
        assert (root_path / "inner/a/b").is_dir() and (root_path / "inner/f").is_file()
        assert (root_path / str(outside).lstrip("/") / "c").is_dir()
        assert (root_path / "y").is_dir()
        with pytest.raises(OSError, match="Too many levels"):
            inroot.make_dir(root, "/loop/x")
        with pytest.raises(NotADirectoryError):
            inroot.make_dir(root, "/inner/f/x")
        assert inroot.exists(root, "/absolute/f") and not inroot.exists(root, "/nosuch")
    finally:
        os.close(root)
    assert list(outside.iterdir()) == []


def test_steps_up_that_the_kernel_cannot_vouch_for_are_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rename or mount anywhere on the host at that moment must not fail a container."""
    call, races = sc._syscall, [0, 0, 0]

    def raced(*arguments: object) -> int:
        if not races:
            return int(call(*arguments))
        races.pop()
        ctypes.set_errno(errno.EAGAIN)
        return -1

    monkeypatch.setattr(sc, "_syscall", raced)
    root = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    try:
        os.close(inroot.open_in(root, "/"))
        assert not races
        races += [0] * 1000
        with pytest.raises(BlockingIOError):
            inroot.open_in(root, "/")
    finally:
        os.close(root)


def test_sync_receives_exactly_what_is_due() -> None:
    ours, theirs = sync.pair()
    with ours:
        sync.send(theirs, sync.Ready())
        with pytest.raises(SystemError_, match="expected Proceed, got Ready"):
            sync.receive(ours, sync.Proceed)
        failure = SystemError_("no", exit_code=127).to_failure()
        sync.send(theirs, sync.Failed(failure))
        with pytest.raises(SystemError_, match="no") as caught:
            sync.receive(ours, sync.Ready)
        assert caught.value.exit_code == 127
        theirs.close()
        with pytest.raises(sync.PeerGone):
            sync.receive(ours, sync.Ready)


@pytest.mark.parametrize(
    ("text", "number"), [("1024", 1024), ("64m", 64 << 20), ("1GiB", 1 << 30), ("-1", -1)]
)
def test_sizes(text: str, number: int) -> None:
    assert updating.size(text) == number


def in_child(run: Callable[[int], None]) -> bytes:
    """What *run* writes to the descriptor it is given, in a forked child."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            run(write)
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as file:
        data = file.read()
    os.waitpid(pid, 0)
    return data


def test_children_import_nothing_and_inherit_nothing() -> None:
    """What a child would import after pivot_root would come from the container."""
    extra = os.open("/", os.O_RDONLY)
    sys.modules.pop("this", None)

    def run(write: int) -> None:
        process.detach_from_parent([write])
        try:
            importlib.import_module("this")
        except ImportError:
            os.write(write, b"refused ")
        open_fds = [fd for fd in range(3, 64) if fd != write and os.path.exists(f"/proc/self/fd/{fd}")]
        os.write(write, str(open_fds).encode())

    try:
        assert in_child(run) == b"refused []"
    finally:
        os.close(extra)


def test_the_name_of_a_program_is_quoted() -> None:
    with pytest.raises(WharfError) as caught:
        execpath.find('a"b', "/nonexistent")
    assert str(caught.value) == 'exec: "a\\"b": executable file not found in $PATH'
