"""File systems for tests, made in a file and mounted from it."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.harness.readiness import wait_until


@contextlib.contextmanager
def loop_mounted(
    directory: Path, kind: str, size: int, *options: str, make: Sequence[str] = ()
) -> Iterator[Path]:
    """A new *kind* file system of *size* bytes (sparse), mounted with *options*; gone afterwards.

    *make* are options of its mkfs.

    The test is skipped where there is no program to make one, or the kernel cannot mount it.
    """
    program = f"mkfs.{kind}"
    if os.geteuid() != 0 or shutil.which(program) is None:
        pytest.skip(f"needs root and {program}")
    image, mount_point = directory / f"{kind}.img", directory / kind
    directory.mkdir(exist_ok=True)
    with image.open("wb") as file:
        file.truncate(size)
    subprocess.run([program, "-q", *make, str(image)], check=True, capture_output=True)
    mount_point.mkdir()
    # The loop device goes with the mount.
    command = ["mount", "-o", ",".join(["loop", *options]), str(image), str(mount_point)]
    mounted = subprocess.run(command, capture_output=True, text=True)
    if mounted.returncode:
        image.unlink()
        mount_point.rmdir()
        pytest.skip(f"the kernel does not mount {kind} with {options}: {mounted.stderr.strip()}")
    try:
        yield mount_point
    finally:
        # The kernel ends the mount namespaces of containers some time after their last process.
        unmount = ["umount", str(mount_point)]
        wait_until(lambda: subprocess.run(unmount).returncode == 0, f"{mount_point} is unmounted", poll=0.2)
        mount_point.rmdir()
        image.unlink()
