"""Images made here, from the host's static busybox: no registry is needed to test or to try wharfd."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import subprocess
import tarfile
from pathlib import Path

BUSYBOX = Path("/bin/busybox")
_MTIME = 1_700_000_000
_CREATED = "2023-11-14T22:13:20Z"
_DIRECTORIES = {
    "bin": 0o755, "dev": 0o755, "etc": 0o755, "home": 0o755, "lib": 0o755, "root": 0o700, "tmp": 0o1777,
    "usr": 0o755, "usr/sbin": 0o755, "var": 0o755, "var/spool": 0o755, "var/spool/mail": 0o755,
    "var/www": 0o755,
}  # fmt: skip
_FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\n"
    "www-data:x:33:33:www-data:/var/www:/bin/false\nnobody:x:65534:65534:nobody:/home:/bin/false\n",
    "etc/group": "root:x:0:\ndaemon:x:1:\nwheel:x:10:root\nstaff:x:50:\nusers:x:100:\nnobody:x:65534:\n",
    "etc/shadow": "root:::0:::::\n",
}


def _entry(name: str, kind: bytes, mode: int, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.mtime, info.linkname = kind, mode, _MTIME, link
    return info


def _add(archive: tarfile.TarFile, name: str, data: bytes, mode: int = 0o644) -> None:
    info = _entry(name, tarfile.REGTYPE, mode)
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))


@functools.cache
def busybox_layer() -> bytes:
    """The root file system as an uncompressed tar."""
    applets = subprocess.run([BUSYBOX, "--list"], check=True, capture_output=True, text=True).stdout.split()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, mode in _DIRECTORIES.items():
            archive.addfile(_entry(name, tarfile.DIRTYPE, mode))
        _add(archive, "bin/busybox", BUSYBOX.read_bytes(), 0o755)
        for applet in applets:
            if applet != "busybox":
                archive.addfile(_entry(f"bin/{applet}", tarfile.SYMTYPE, 0o777, "/bin/busybox"))
        for name, text in _FILES.items():
            _add(archive, name, text.encode())
    return out.getvalue()


@functools.cache
def busybox_archive(*tags: str) -> bytes:
    """A ``docker load`` archive of one image with *tags* (default ``busybox:latest``)."""
    layer = busybox_layer()
    diff = hashlib.sha256(layer).hexdigest()
    config = {
        "architecture": "amd64",
        "os": "linux",
        "created": _CREATED,
        "config": {
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "Cmd": ["sh"],
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{diff}"]},
        "history": [{"created": _CREATED, "created_by": "COPY rootfs / # buildkit"}],
    }
    document = json.dumps(config).encode()
    name = f"{hashlib.sha256(document).hexdigest()}.json"
    manifest = [
        {"Config": name, "RepoTags": list(tags or ("busybox:latest",)), "Layers": [f"{diff}/layer.tar"]}
    ]
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        _add(archive, f"{diff}/layer.tar", layer)
        _add(archive, name, document)
        _add(archive, "manifest.json", json.dumps(manifest).encode())
    return out.getvalue()
