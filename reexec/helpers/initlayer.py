"""``docker-initlayer JSON``: the files every container has, in a layer above its image.

They are what the runtime and the engine mount on, so that no container's changes show them
(moby ``daemon/initlayer/setup_unix.go``).
"""

from __future__ import annotations

import os

from reexec.archive import syscalls
from reexec.archive.rootfs import RootSpec, enter
from reexec.call import Call
from reexec.registry import register

#: Path -> directory (None), empty file ("") or target of a symbolic link.
_CONTENT: dict[str, str | None] = {
    "/dev/pts": None,
    "/dev/shm": None,
    "/proc": None,
    "/sys": None,
    "/.dockerenv": "",
    "/etc/resolv.conf": "",
    "/etc/hosts": "",
    "/etc/hostname": "",
    "/dev/console": "",
    "/etc/mtab": "/proc/mounts",
}


@register("docker-initlayer")
def main(call: Call) -> int:
    enter(call.document(RootSpec))
    os.umask(0)
    for path, content in _CONTENT.items():
        _make(path, content)
    root = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        syscalls.syncfs(root)
    finally:
        os.close(root)
    return 0


def _make(path: str, content: str | None) -> None:
    prefix = ""
    for part in path.split("/")[1:]:
        prefix += "/" + part
        # What stands in the way (a file, a link that could point anywhere) goes; directories stay.
        if os.path.lexists(prefix) and (os.path.islink(prefix) or not os.path.isdir(prefix)):
            os.unlink(prefix)
        elif not os.path.lexists(prefix) and prefix != path:
            os.mkdir(prefix, 0o755)
    if content is None:
        if not os.path.isdir(path):
            os.mkdir(path, 0o755)
    elif os.path.isdir(path):
        return
    elif content:
        os.symlink(content, path)
    else:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_EXCL | os.O_CLOEXEC, 0o755))
