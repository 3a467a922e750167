"""Tests on another kernel: user-mode Linux (Debian's user-mode-linux), an ordinary program on this host.

The guest has the host's files to read, a tmpfs at ``/mnt``, and one disk with a file system of its
own, whose mount point is in the environment (``WHARFD_GUEST_DISK``).
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
_PROGRAM = "linux.uml"
_INIT = """#!/bin/sh
echo "guest: up"
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /mnt
mkdir /mnt/disk /mnt/tmp
/bin/busybox insmod /usr/lib/uml/modules/$(uname -r)/kernel/fs/overlayfs/overlay.ko
mount -t {kind} -o {options} /dev/ubda /mnt/disk
cd {repository}
export WHARFD_GUEST_DISK=/mnt/disk TMPDIR=/mnt/tmp PYTHONDONTWRITEBYTECODE=1 HOME=/mnt/tmp PATH
{python} -m pytest --noconftest -p no:cacheprovider -q --color=no --tb=short {tests}
echo "guest: pytest ended with $?"
/bin/busybox poweroff -f
"""


def run(tests: str, directory: Path, kind: str, options: str, *, timeout: float = 380) -> None:
    """pytest on *tests* (a file of the repository) with a new *kind* file system mounted with *options*.

    Fails with what the guest printed. Skips where there is no such kernel or ``mkfs``, or where the
    kernel does not come up (it needs ptrace(2), which a sandbox may forbid).
    """
    program, make = shutil.which(_PROGRAM), shutil.which(f"mkfs.{kind}")
    if program is None or make is None or os.geteuid() != 0:
        pytest.skip(f"needs root, {_PROGRAM} and mkfs.{kind}")
    disk, init = directory / "disk", directory / "init"
    with disk.open("wb") as file:
        file.truncate(400 << 20)
    subprocess.run([make, "-q", str(disk)], check=True, capture_output=True)
    init.write_text(
        _INIT.format(kind=kind, options=options, repository=REPOSITORY, python=sys.executable, tests=tests)
    )
    init.chmod(0o755)
    command = [
        program, "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", f"init={init}",
        "mem=512M", f"ubda={disk}", "con=null", "con0=null,fd:1", "quiet",
    ]  # fmt: skip
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={"PATH": os.environ["PATH"], "TMPDIR": str(directory), "HOME": str(directory)},
        start_new_session=True,
    )
    try:
        printed = process.communicate(timeout=timeout)[0].decode(errors="replace")
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        disk.unlink()
    if "guest: up" not in printed:
        pytest.skip(f"the guest does not come up:\n{printed}")
    ended = re.search(r"guest: pytest ended with (\d+)", printed)
    assert ended and ended[1] == "0", printed
