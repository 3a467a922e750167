"""The whole way of an image: a Debian root file system is imported, run, committed, pushed, pulled, run."""

from __future__ import annotations

import re
import tarfile
from pathlib import Path

import pytest

from tests.harness import debian
from tests.harness.engine import Engine
from tests.integration.registry.servers import BINARY, Registry

pytestmark = [
    pytest.mark.skipif(BINARY is None, reason="there is no docker-registry"),
    pytest.mark.timeout(1800),
]
#: What dpkg can tell of an installation that is whole.
_CHECK = (
    "dpkg --audit && dpkg-query -W -f '${db:Status-Abbrev}\\n' | sort -u && dpkg --verify --verify-format rpm"
)

#: What the engine puts into every container.
_MADE = (
    "/proc", "/sys", "/dev", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/etc/mtab", "/.dockerenv",
)  # fmt: skip


def manifest(engine: Engine, image: str) -> str:
    """Every file of *image* with its kind, mode, owner, size, time and target."""
    own = " -o ".join(f"-path {path}" for path in _MADE)
    find = f"find / -xdev '(' {own} ')' -prune -o ! -type d -printf '%p %y %m %U:%G %s %T@ %l\\n' | sort"
    return engine.docker("run", "--rm", image, "sh", "-c", find, timeout=400).stdout


def test_the_way_of_an_image(engine: Engine, debian_directory: Path, tmp_path: Path, name: str) -> None:
    base = debian.base(debian_directory)
    imported = engine.docker("import", "-c", "ENV LANG=C", str(base), "debian:mine", timeout=400)
    assert imported.stdout.startswith("sha256:")
    first = manifest(engine, "debian:mine")
    assert len(first.splitlines()) > 2000

    run = engine.docker(
        "run", "--name", name, "debian:mine", "sh", "-c",
        "echo made > /srv/made && rm /etc/issue && useradd -m maker && ln -s /srv/made /home/maker/link"
        " && chown maker /srv/made && cat /etc/os-release",
    )  # fmt: skip
    assert "ID=debian" in run.stdout
    registry = Registry(tmp_path)
    pushed = f"{registry.host}/debian:mine"
    try:
        engine.docker("commit", "-c", "USER maker", "-m", "for the test", name, pushed)
        engine.docker("rm", name)
        second = manifest(engine, f"{pushed}")
        engine.docker("push", pushed, timeout=400)
        identity = engine.docker("image", "inspect", "-f", "{{.Id}}", pushed).stdout
        engine.docker("rmi", pushed, "debian:mine")
        assert "debian" not in engine.docker("images", "-a").stdout

        again = engine.docker(
            "run", "--rm", pushed, "sh", "-c", "id -un; cat ~/link; ls /etc/issue", check=False
        )
        assert again.stdout == "maker\nmade\n"
        assert f"Status: Downloaded newer image for {pushed}" in again.stderr
        assert engine.docker("image", "inspect", "-f", "{{.Id}}", pushed).stdout == identity
        assert manifest(engine, pushed) == second
        comments = engine.docker("history", "--format", "{{.Comment}}", pushed).stdout
        assert comments == "for the test\nImported from -\n"
        checked = engine.docker("run", "--rm", "--user", "0", pushed, "sh", "-c", _CHECK, timeout=400)
        statuses = [line for line in checked.stdout.splitlines() if line.startswith("ii")]
        assert statuses == ["ii "]
        # What debootstrap itself and we have left out or changed; every other file is as its package has it.
        assert not [line for line in checked.stdout.splitlines() if line.startswith("??5")], checked.stdout
    finally:
        registry.close()
        engine.docker("rmi", "-f", pushed, "debian:mine", check=False)


def test_export_is_what_was_imported(
    engine: Engine, debian_directory: Path, tmp_path: Path, name: str
) -> None:
    """The same tree, as tar sees it."""
    base = debian.base(debian_directory)
    engine.docker("import", str(base), "debian:mine", timeout=400)
    try:
        engine.docker("create", "--name", name, "debian:mine", "true")
        engine.docker("export", "-o", str(tmp_path / "out.tar"), name, timeout=400)
    finally:
        engine.docker("rm", name)
        engine.docker("rmi", "debian:mine")
    assert _entries(tmp_path / "out.tar") == _entries(base)


#: What the engine puts into every container, and directories that get it.
_OWN = re.compile(r"(\.|(dev|proc|sys)(/.*)?|etc(/(hosts|hostname|resolv\.conf|mtab))?|\.dockerenv|)/?$")


def _entries(archive: Path) -> set[tuple[object, ...]]:
    """Of hard links each is the file: who comes first is the writer's choice."""
    with tarfile.open(archive) as opened:
        members = {member.name.removeprefix("./"): member for member in opened}
    found = set()
    for name, member in members.items():
        real = members[member.linkname.removeprefix("./")] if member.islnk() else member
        if not _OWN.match(name):
            kind = (real.type, real.mode, real.uid, real.gid, int(real.mtime), real.size, member.issym())
            found.add((name, *kind, member.linkname if member.issym() else ""))
    return found
