"""A root file system of nothing but busybox."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

APPLETS = "cat dd echo env false head kill ls printf ps seq sh sleep stty touch tr true wc yes"


def make_rootfs(directory: Path) -> Path:
    """*directory* with busybox and what containers mount on; skips the test where there is none."""
    busybox = shutil.which("busybox")
    if busybox is None:
        pytest.skip("there is no busybox")
    for name in ("bin", "dev", "etc", "proc", "sys", "tmp"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    shutil.copy(busybox, directory / "bin" / "busybox")
    for applet in APPLETS.split():
        (directory / "bin" / applet).symlink_to("busybox")
    (directory / "etc" / "passwd").write_text("root:x:0:0:root:/:/bin/sh\n")
    (directory / "tmp").chmod(0o1777)
    return directory
