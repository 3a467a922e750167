"""A Debian root file system and packages for it, from wherever the host's apt gets its own.

The names of mirrors are read from apt's configuration: nothing here knows one.
"""

from __future__ import annotations

import functools
import os
import platform
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

#: Made in memory: dpkg waits for the disk at each package. The mount is the shell's own, so that nothing
#: is left on the host whatever ends it; so are the processes (``--kill-child``).
_BOOTSTRAP = """
set -eu
mount -t tmpfs -o mode=755 none "$DIRECTORY"
debootstrap --variant=minbase --components=main "$CODENAME" "$DIRECTORY/root" "$REPOSITORY" >&2
cd "$DIRECTORY/root"
rm -rf var/cache/apt/* var/lib/apt/lists/* var/log/* usr/share/doc/* usr/share/man/* usr/share/locale/* \
    usr/share/info/* debootstrap
printf 'path-exclude /usr/share/%s/*\n' doc man locale info > etc/dpkg/dpkg.cfg.d/small
echo force-unsafe-io >> etc/dpkg/dpkg.cfg.d/small
tar --create --one-file-system --numeric-owner --sort=name .
"""
#: Seconds for a slow mirror, and a machine that is busy.
_TIMEOUT = 600
#: Of each file that a mirror did not give.
_RETRIES = "Acquire::Retries=10"


@dataclass(frozen=True)
class Source:
    """A repository of the host's release: ``REPOSITORY CODENAME main``."""

    repository: str
    codename: str


@functools.cache
def sources() -> tuple[Source, ...]:
    """Debian's own among the host's apt sources, the release itself first."""
    found = _index_targets()
    if not found:
        _apt("apt-get", "update", "-qq", "-o", _RETRIES)
        found = _index_targets()
    codename = platform.freedesktop_os_release()["VERSION_CODENAME"]
    found = [source for source in found if source.codename.partition("-")[0] == codename]
    assert found, f"apt has no source of {codename}"
    return tuple(sorted(found, key=lambda source: source.codename != codename))


def _index_targets() -> list[Source]:
    form = "$(REPO_URI) $(CODENAME)"
    wanted = ("Created-By: Packages", "Origin: Debian", "Component: main")
    lines = _apt("apt-get", "indextargets", "--format", form, *wanted).splitlines()
    return [Source(*line.split()) for line in dict.fromkeys(lines)]


def base(directory: Path) -> Path:
    """The tar of a minimal Debian of the host's release; made when *directory* has none."""
    path = directory / "base.tar"
    if path.exists():
        return path
    source = sources()[0]
    place = directory / "root"
    place.mkdir(exist_ok=True)
    environment = os.environ | {
        "DIRECTORY": str(place), "CODENAME": source.codename, "REPOSITORY": source.repository
    }  # fmt: skip
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        done = subprocess.run(
            ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", _BOOTSTRAP],
            env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.PIPE, timeout=_TIMEOUT,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode(errors="replace")[-4000:]
    partial.rename(path)
    return path


def pool(directory: Path, name: str, *packages: str) -> Path:
    """A directory *name* with the ``.deb`` files that *packages* need on top of :func:`base`.

    In a build without network: ``apt-get install -y ./*.deb`` there.
    """
    path = directory / name
    (path / "partial").mkdir(parents=True, exist_ok=True)
    # Each pool's own, and none in it: pools are made at the same time.
    status, states, listing = (directory / f"{name}.{kind}" for kind in ("status", "states", "list"))
    with tarfile.open(base(directory)) as archive, status.open("wb") as file:
        shutil.copyfileobj(_member(archive, "./var/lib/dpkg/status"), file)
    # The host's lists of packages are used as they are: apt has verified them.
    listing.write_text(
        "".join(f"deb [trusted=yes] {one.repository} {one.codename} main\n" for one in sources())
    )
    options = {
        "Dir::State::status": status,
        "Dir::State::extended_states": states,
        "Dir::Cache::archives": path,
        "Dir::Cache::pkgcache": "",
        "Dir::Cache::srcpkgcache": "",
        "Dir::Etc::sourcelist": listing,
        "Dir::Etc::sourceparts": "-",
        "Dir::Etc::preferencesparts": "-",
        "APT::Keep-Downloaded-Packages": "true",
        "APT::Sandbox::User": "root",
        "Debug::NoLocking": "true",
    }
    settings = ["-o", _RETRIES]
    settings += [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    _apt(
        "apt-get", "install", "-qq", "-y", "--download-only", "--no-install-recommends", *settings, *packages
    )
    (path / "partial").rmdir()
    return path


def _member(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    file = archive.extractfile(name)
    assert file is not None, name
    return file


def _apt(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout
