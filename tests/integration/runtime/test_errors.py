"""Programs that cannot be executed, users that do not exist: texts and exit codes."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest

from services.containerd_shim.runtime import caps
from services.protocol import oci
from services.protocol.errors import ErrorKind, WharfError
from tests.integration.runtime.conftest import Box

CREATE = (
    "OCI runtime create failed: runc create failed: unable to start container process: "
    "error during container init: "
)
EXEC = "OCI runtime exec failed: exec failed: unable to start container process: "

HINT = (
    ": Are you trying to mount a directory onto a file (or vice-versa)? "
    "Check if the specified host path exists and is the expected type"
)

PROGRAMS = [
    ("nosuch", 127, 'exec: "nosuch": executable file not found in $PATH'),
    ("/nosuch", 127, 'exec: "/nosuch": stat /nosuch: no such file or directory'),
    ("/etc", 126, 'exec: "/etc": is a directory: permission denied'),
    ("/bin/noexec", 126, 'exec: "/bin/noexec": permission denied'),
    ("noexec", 127, 'exec: "noexec": executable file not found in $PATH'),
    ("/etc/passwd/x", 127, f'exec: "/etc/passwd/x": stat /etc/passwd/x: not a directory{HINT}'),
]


def cgroups_of(box: Box) -> list[Path]:
    return list(Path("/sys/fs/cgroup").glob(f"*/*/{box.id}"))


@pytest.mark.parametrize(("program", "code", "text"), PROGRAMS)
def test_create_names_what_cannot_be_executed(box: Box, program: str, code: int, text: str) -> None:
    gc.collect()  # what other tests have forgotten must not be closed in between
    before = os.listdir("/proc/self/fd")
    with pytest.raises(WharfError) as caught:
        box.create(program)
    assert str(caught.value) == CREATE + text
    assert caught.value.exit_code == code
    assert not cgroups_of(box)
    assert os.listdir("/proc/self/fd") == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


@pytest.mark.parametrize(("program", "code", "text"), PROGRAMS)
def test_exec_names_what_cannot_be_executed(box: Box, program: str, code: int, text: str) -> None:
    box.start("sleep", "60")
    with pytest.raises(WharfError) as caught:
        box.exec(program)
    assert str(caught.value) == EXEC + text
    assert caught.value.exit_code == code


def test_missing_interpreter_is_told_on_stderr(box: Box) -> None:
    result = box.run("/bin/script")
    assert (result.code, result.out) == (255, "exec /bin/script: no such file or directory\n")


@pytest.mark.parametrize(
    ("user", "text"),
    [
        ("nosuchuser", "unable to find user nosuchuser: no matching entries in passwd file"),
        ("root:nosuchgroup", "unable to find group nosuchgroup: no matching entries in group file"),
        ("-5", "uids and gids must be in range 0-2147483647"),
        ("4294967296", "uids and gids must be in range 0-2147483647"),
    ],
)
def test_unknown_user(box: Box, user: str, text: str) -> None:
    with pytest.raises(WharfError) as caught:
        box.create("true", user=user)
    assert str(caught.value) == text
    assert caught.value.exit_code is None
    assert caught.value.kind is ErrorKind.INVALID_PARAMETER
    assert not cgroups_of(box)


def test_user_without_access_to_the_program(box: Box) -> None:
    (box.bundle / "upper/secret").mkdir(mode=0o700)
    (box.bundle / "upper/secret/tool").write_text("")
    (box.bundle / "upper/secret/tool").chmod(0o755)
    with pytest.raises(WharfError) as caught:
        box.create("/secret/tool", user="1000")
    assert caught.value.exit_code == 126
    assert "permission denied" in str(caught.value)


def test_unknown_sysctl_is_refused(box: Box) -> None:
    box.linux.sysctl = {"net.ipv4.nosuch": "1"}
    with pytest.raises(WharfError, match="no such file or directory") as caught:
        box.create("true")
    assert caught.value.exit_code == 127


def test_missing_bind_source(box: Box) -> None:
    box.spec.mounts.append(
        oci.Mount(destination="/x", type="bind", source="/nosuch-source", options=["rbind"])
    )
    with pytest.raises(WharfError, match='error mounting "/nosuch-source" to rootfs at "/x".*no such file'):
        box.create("true")


@pytest.mark.parametrize("destination", ["/", "/top"])
@pytest.mark.parametrize("kind", ["bind", "tmpfs"])
def test_nothing_is_mounted_on_the_root(box: Box, tmp_path: Path, kind: str, destination: str) -> None:
    (box.bundle / "upper" / "top").symlink_to("/")
    options = ["rbind"] if kind == "bind" else []
    box.spec.mounts.append(
        oci.Mount(destination=destination, type=kind, source=str(tmp_path), options=options)
    )
    with pytest.raises(WharfError, match="is on the top of rootfs"):
        box.create("true")


def test_file_on_directory(box: Box, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    source = str(tmp_path / "file")
    box.spec.mounts.append(oci.Mount(destination="/etc", type="bind", source=source, options=["rbind"]))
    with pytest.raises(WharfError, match="Are you trying to mount a directory onto a file") as caught:
        box.create("true")
    assert caught.value.exit_code == 127


@pytest.mark.parametrize("kind", ["bogus", "time"])
def test_unknown_namespace(box: Box, kind: str) -> None:
    box.linux.namespaces.append(oci.Namespace(type=kind))
    with pytest.raises(WharfError, match=kind):
        box.create("true")


def test_raising_a_hard_limit_without_privilege_fails(box: Box) -> None:
    box.process.rlimits = [oci.Rlimit(type="RLIMIT_NOFILE", soft=1 << 40, hard=1 << 40)]
    with pytest.raises(WharfError, match="error setting rlimits.*operation not permitted"):
        box.start("true")


def test_a_capability_that_the_host_lacks(box: Box) -> None:
    lacking = [name for number, name in enumerate(caps.NAMES) if not caps.permitted() >> number & 1]
    if not lacking:
        pytest.skip("this process has every capability")
    assert box.process.capabilities is not None
    box.process.capabilities.permitted = [*box.process.capabilities.permitted, lacking[0]]
    with pytest.raises(WharfError, match="unable to apply caps: operation not permitted"):
        box.start("true")


def test_unknown_user_of_an_exec(box: Box) -> None:
    box.start("sleep", "60")
    with pytest.raises(WharfError, match="^unable to find user nosuch: no matching entries") as caught:
        box.exec("true", user="nosuch")
    assert caught.value.exit_code == 126
