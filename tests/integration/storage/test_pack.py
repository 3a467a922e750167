"""``docker-tar``, ``docker-untar``, ``docker-stat``, ``docker-changes``: copying out, in, and comparing."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import io
import os
import signal
import struct
import tarfile
import tempfile
import termios
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from reexec.archive import syscalls
from reexec.archive.rootfs import MountSpec, RootSpec, enter, gone, reach
from reexec.helpers.stat import go_mode
from reexec.helpers.tar import Tar
from reexec.helpers.untar import Untar
from services.engine.containers.archive import absolute, base_name
from services.engine.helpers import document
from services.engine.layers import Layer
from services.protocol.api.containers import Config
from services.protocol.errors import Conflict, InvalidParameter, NotFound, SystemError_, WharfError
from services.protocol.verbs.containers import CommitArgs
from tests.integration.storage.conftest import Home
from tests.integration.storage.storage import Storage, storage
from tests.suites.trees import directory, entry, hardlink, image_archive, inside, listing, symlink, tar

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts file systems")

ID = "a" * 64
ROOT = tar(
    directory("etc"),
    entry("etc/passwd", b"root:x:0:0::/:\nme:x:12:34::/:\n"),
    entry("etc/group", b"root:x:0:\n"),
    directory("d", uid=1, gid=2, mode=0o1777),
    entry("d/f", b"content", mode=0o4755, uid=3, gid=4, pax_headers={"mtime": "1600000000.5"}),
    hardlink("d/h", "d/f"),
    symlink("d/l", "f"),
    symlink("link", "d"),
    entry("gone", b"1"),
    directory("emptied"),
    entry("emptied/old", b"1"),
)


def run(tmp_path: Path, test: Callable[[Storage], Awaitable[None]], driver: str = "overlay2") -> None:
    async def body() -> None:
        async with storage(tmp_path / "root", driver) as made:
            await made.load(image_archive([(["img:1"], [ROOT])]))
            await made.layers.create(ID, made.images.resolve("img:1").chain_id, {})
            await test(made)

    asyncio.run(body())


async def pack(s: Storage, arguments: Tar) -> tarfile.TarFile:
    with tempfile.TemporaryFile() as file:
        await s.helpers.run(document("docker-tar", arguments), {"stdout": file.fileno()})
        file.seek(0)
        return tarfile.open(fileobj=io.BytesIO(file.read()))  # noqa: SIM115


async def unpack(s: Storage, archive: bytes, **arguments: object) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(archive)
        file.seek(0)
        await s.layers.untar(Untar(root=s.layers.root(ID), **arguments), file.fileno())  # type: ignore[arg-type]


def test_attributes_go_into_the_archive(tmp_path: Path) -> None:
    async def test(s: Storage) -> None:
        archive = await pack(s, Tar(root=s.layers.root(ID), path="/d", name="d"))
        assert archive.getnames() == ["d", "d/f", "d/h", "d/l"]
        top, file, hard, soft = archive.getmembers()
        assert (top.mode, top.uid, top.gid, top.isdir()) == (0o1777, 1, 2, True)
        assert (file.mode, file.uid, file.gid, file.size) == (0o4755, 3, 4, 7)
        assert file.mtime == 1_600_000_000 and "mtime" not in file.pax_headers  # the fraction is cut off
        assert (hard.islnk(), hard.linkname) == (True, "d/f")
        assert (soft.issym(), soft.linkname) == (True, "f")
        reader = archive.extractfile("d/f")
        assert reader is not None and reader.read() == b"content"

    run(tmp_path, test)


def test_parts_of_a_tree(tmp_path: Path) -> None:
    async def test(s: Storage) -> None:
        async def names(path: str, name: str) -> list[str]:
            return (await pack(s, Tar(root=s.layers.root(ID), path=path, name=name))).getnames()

        assert await names("/d/f", "f") == ["f"]
        assert await names("/link", "link") == ["link"], "the last part is not followed"
        assert await names("/link/", "link") == ["link", "link/f", "link/h", "link/l"]
        assert await names("/d/.", ".") == [".", "./f", "./h", "./l"]
        assert "d/f" in await names("/", "")
        with pytest.raises(NotFound):
            await names("/nosuch", "x")

    run(tmp_path, test)


def test_mounts_are_seen_or_left_out(tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    (volume / "inside").write_text("1")

    async def test(s: Storage) -> None:
        mount = MountSpec(type="bind", source=str(volume), target="/new/dir", options=["rbind"])
        seen = await pack(s, Tar(root=s.layers.root(ID, [mount]), path="/new", name="new"))
        assert seen.getnames() == ["new", "new/dir", "new/dir/inside"]
        await unpack(s, tar(entry("x", b"1")), path="/")
        with tempfile.TemporaryFile() as file:
            file.write(tar(entry("put", b"2")))
            file.seek(0)
            await s.layers.untar(Untar(root=s.layers.root(ID, [mount]), path="/new/dir"), file.fileno())
        assert (volume / "put").read_text() == "2"
        read_only = MountSpec(type="bind", source=str(volume), target="/new/dir", options=["rbind", "ro"])
        with (
            tempfile.TemporaryFile() as file,
            pytest.raises(WharfError, match="^open .*: read-only file system$"),
        ):
            file.write(tar(entry("refused", b"2")))
            file.seek(0)
            await s.layers.untar(Untar(root=s.layers.root(ID, [read_only]), path="/new/dir"), file.fileno())

    run(tmp_path, test)


def test_a_container_can_be_started_while_it_is_read(tmp_path: Path) -> None:
    """Its work directory is the runtime's alone."""

    async def test(s: Storage) -> None:
        await unpack(s, tar(entry("etc/passwd", b"changed"), entry("d/.wh.f"), entry("new", b"1")), path="/")
        inside(s.layers.mounts(ID), tmp_path / "mnt", lambda: Path("/d/h").unlink())
        root = s.layers.root(ID, reading=True)
        assert not any(
            word in option for option in root.mounts[0].options for word in ("upperdir", "workdir")
        )
        for path in ("/d", "/etc", "/new"):
            found = []
            for spec in (root, s.layers.root(ID)):
                archive = await pack(s, Tar(root=spec, path=path, name="x"))
                found.append([(one.name, one.mode, one.size, one.mtime, one.type) for one in archive])
            assert found[0] == found[1]
        # A target that is not there has to be made.
        mount = MountSpec(type="tmpfs", source="tmpfs", target="/not/there/yet")
        made = await pack(s, Tar(root=s.layers.root(ID, [mount], reading=True), path="/not", name="not"))
        assert made.getnames() == ["not", "not/there", "not/there/yet"]

    run(tmp_path, test)


def test_a_mounts_target_cannot_leave_the_root(tmp_path: Path) -> None:
    async def test(s: Storage) -> None:
        await unpack(s, tar(symlink("evil", "../../../../..")), path="/")
        mount = MountSpec(type="tmpfs", source="tmpfs", target=f"/evil{tmp_path}/there")
        await pack(s, Tar(root=s.layers.root(ID, [mount]), path="/etc", name="etc"))
        assert not (tmp_path / "there").exists()

    run(tmp_path, test)


def test_extracting_into_a_container(tmp_path: Path) -> None:
    async def test(s: Storage) -> None:
        await unpack(s, tar(entry("n", b"1", uid=77, gid=78)), path="/link")
        await unpack(s, tar(entry("m", b"1", uid=77, gid=78)), path="/d", owner="me")

        def look() -> list[list[int]]:
            return [[os.stat(p).st_uid, os.stat(p).st_gid] for p in ("/d/n", "/d/m")]

        assert inside(s.layers.mounts(ID), tmp_path / "mnt", look) == [[77, 78], [12, 34]]
        with pytest.raises(NotFound, match="^Could not find the file /no/such in container c2$"):
            await unpack(s, tar(), path="/no/such", container="c2")
        with pytest.raises(NotFound, match="^Could not find the file no/such/ in container c2$"):
            await unpack(s, tar(), path="no/such/", container="c2")
        with pytest.raises(InvalidParameter, match="^extraction point is not a directory$"):
            await unpack(s, tar(), path="/etc/passwd")
        for path, text in (
            ("/etc/passwd/", "lstat /etc/passwd/: not a directory"),
            ("/etc/passwd/.", "lstat /etc/passwd/.: not a directory"),
            ("/etc/passwd/x", "not a directory"),
        ):
            with pytest.raises(SystemError_, match=f"^{text}$"):
                await unpack(s, tar(), path=path)
        for archive in (tar(entry("etc", b"1")), tar(directory("gone"))):
            with pytest.raises(SystemError_, match="cannot overwrite"):
                await unpack(s, archive, path="/", no_overwrite_dir_non_dir=True)

    run(tmp_path, test)


def test_extracting_into_what_is_read_only(tmp_path: Path) -> None:
    async def test(s: Storage) -> None:
        only_root: dict[str, object] = {"read_only": True, "mounts": {"/d": True, "/etc": False}}
        await unpack(s, tar(entry("n", b"1")), path="/link", **only_root)  # leads to /d
        with pytest.raises(InvalidParameter, match="^container rootfs is marked read-only$"):
            await unpack(s, tar(), path="/", **only_root)
        with pytest.raises(InvalidParameter, match="^mounted volume is marked read-only$"):
            await unpack(s, tar(), path="/etc", mounts={"/etc": False})
        with pytest.raises(NotFound):
            await unpack(s, tar(), path="/nosuch", **only_root)

    run(tmp_path, test)


def test_stat(tmp_path: Path) -> None:
    async def test(s: Storage) -> None:
        root = s.layers.root(ID)
        found = await s.layers.path_stat(root, "/link")
        assert found is not None
        assert (found.mode & 1 << 27, found.link_target) == (1 << 27, "/d")
        found = await s.layers.path_stat(root, "/d/f")
        assert found is not None
        assert (found.size, found.mode, found.mtime) == (7, 0o755 | 1 << 23, 1_600_000_000_500_000_000)
        assert await s.layers.path_stat(root, "/nosuch") is None
        assert await s.layers.path_stat(root, "etc/passwd") == await s.layers.path_stat(root, "/etc/passwd")
        for path in ("/etc/passwd/", "/etc/passwd/x"):
            with pytest.raises(SystemError_, match=f"^lstat {path}: not a directory$"):
                await s.layers.path_stat(root, path)

    run(tmp_path, test)


def test_modes_are_those_of_go() -> None:
    """Values computed with Go's ``fs.FileMode``."""
    assert go_mode(0o040755) == 0x800001ED
    assert go_mode(0o041777) == 0x801001FF
    assert go_mode(0o100644) == 0x1A4
    assert go_mode(0o120777) == 0x80001FF
    assert go_mode(0o020666) == 0x42001B6


def test_changes(tmp_path: Path, home: Home) -> None:
    def change() -> None:
        Path("/new/sub").mkdir(parents=True)
        Path("/new/sub/f").write_text("1")
        Path("/etc/passwd").write_text("changed")
        Path("/gone").unlink()
        os.chmod("/d", 0o700)
        Path("/emptied/old").unlink()
        Path("/emptied").rmdir()
        Path("/emptied").mkdir()
        Path("/emptied/fresh").write_text("1")

    async def test(s: Storage) -> None:
        assert await s.layers.changes(ID) == []
        inside(s.layers.mounts(ID), tmp_path / "mnt", change)
        found = [f"{'CAD'[kind]} {path}" for kind, path in await s.layers.changes(ID)]
        assert found == [
            "C /d",
            "C /emptied",
            "A /emptied/fresh",
            "D /emptied/old",
            "C /etc",
            "C /etc/passwd",
            "D /gone",
            "A /new",
            "A /new/sub",
            "A /new/sub/f",
        ]

    run(home.root, test, home.driver)


@contextlib.contextmanager
def process_in(s: Storage) -> Iterator[int]:
    """A process in the container's root, with a volume on /d."""
    reading, ready = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            enter(s.layers.root(ID))
            syscalls.mount("tmpfs", "/d", "tmpfs")
            Path("/d/in-the-volume").write_text("1")
            os.write(ready, b"1")
            signal.pause()
        finally:
            os._exit(1)
    try:
        os.read(reading, 1)
        yield pid
    finally:
        os.close(reading)
        os.close(ready)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, 9)
            os.waitpid(pid, 0)


def test_a_running_process_is_entered_with_and_without_its_mounts(tmp_path: Path) -> None:
    async def test(s: Storage) -> None:
        with process_in(s) as pid:
            everything = await pack(s, Tar(root=RootSpec(pid=pid), path="/d", name="d"))
            assert everything.getnames() == ["d", "d/in-the-volume"]
            own = await pack(s, Tar(root=RootSpec(pid=pid, own_mount_only=True), path="/d", name="d"))
            assert own.getnames() == ["d", "d/f", "d/h", "d/l"]

    run(tmp_path, test)


def test_a_process_that_ends_once_its_archive_is_being_read(tmp_path: Path) -> None:
    """Nobody can send the archive again."""

    async def test(s: Storage) -> None:
        archive = tar(entry("late", b"1"))
        reading, writing = os.pipe()
        with process_in(s) as pid:
            work = Untar(root=RootSpec(pid=pid, own_mount_only=True))
            extraction = asyncio.create_task(s.layers.untar(work, reading))
            os.write(writing, archive[:1])
            while unread(reading):  # a pipe tells nobody when it has been read
                await asyncio.sleep(0.001)
            os.kill(pid, 9)
            os.waitpid(pid, 0)
            os.write(writing, archive[1:])
            os.close(writing)
            await extraction
            os.close(reading)
        assert (await pack(s, Tar(root=s.layers.root(ID), path="/late", name="late"))).getnames() == ["late"]

    run(tmp_path, test)


def test_a_process_that_is_reaped_while_its_root_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the kernel says "permission denied"."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    opened = os.open

    def late(path: str, flags: int) -> int:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return opened(path, flags)

    monkeypatch.setattr(os, "open", late)
    with pytest.raises(Conflict, match=gone(pid)):
        reach(RootSpec(pid=pid))


def unread(pipe: int) -> int:
    """Bytes in *pipe* (pipe(7), FIONREAD)."""
    return struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, b"\0" * 4))[0]


@pytest.mark.parametrize(
    ("path", "expected", "base"),
    [
        ("/a/b", "/a/b", "b"),
        ("a/b", "/a/b", "b"),
        ("/a/b/", "/a/b/", "b"),
        ("/a/b/.", "/a/b/.", "."),
        ("/a/../../b", "/b", "b"),
        (".", "/.", "."),
        ("./", "/./", "."),
        ("/.", "/.", "."),
        ("/a/./", "/a/./", "."),
        ("/", "/", "/"),
    ],
)
def test_paths(path: str, expected: str, base: str) -> None:
    assert absolute(path) == expected
    assert base_name(expected) == base


def test_commit(tmp_path: Path, home: Home) -> None:
    def change() -> None:
        Path("/etc/passwd").write_text("changed")
        Path("/gone").unlink()
        Path("/new").mkdir(mode=0o700)
        os.symlink("x", "/new/l")

    async def test(s: Storage) -> None:
        inside(s.layers.mounts(ID), tmp_path / "mnt", change)
        base = s.images.resolve("img:1")
        args = CommitArgs(ID, repo="snap", tag="1", comment="why", author="who")
        made = await s.images.commit(ID, base.id, Config(cmd=["sh"]), args)
        image = s.images.inspect("snap:1")
        assert (image.id, image.parent, image.comment, image.author) == (made.id, base.id, "why", "who")
        assert [item.comment for item in s.images.history("snap:1")] == ["why", ""]
        await s.layers.create("b" * 64, s.images.resolve("snap:1").chain_id, {})
        seen = inside(s.layers.mounts("b" * 64), tmp_path / "mnt", listing)
        assert (seen["/etc/passwd"], seen["/new/l"]) == ("changed", "-> x")
        assert "/gone" not in seen and seen["/d/f"] == "content"

    run(home.root, test, home.driver)


def test_a_commit_whose_helper_dies_leaves_nothing(tmp_path: Path) -> None:
    async def test(s: Storage) -> None:
        inside(s.layers.mounts(ID), tmp_path / "mnt", lambda: Path("/big").write_bytes(b"x" * 50_000_000))
        before = s.layer_directories()
        with pytest.raises(WharfError, match="was killed|EOF"):
            while True:
                commit = asyncio.ensure_future(s.layers.commit(ID))
                while len(s.helpers.pids) < 2 and not commit.done():
                    await asyncio.sleep(0.0005)
                for pid in s.helpers.pids:
                    os.kill(pid, signal.SIGKILL)
                await s.layers.release((await commit).chain_id)  # it was faster
        assert s.layer_directories() == before

    run(tmp_path, test)


def test_a_commit_that_is_cancelled_at_its_end_leaves_nothing(tmp_path: Path) -> None:
    async def test(s: Storage) -> None:
        inside(s.layers.mounts(ID), tmp_path / "mnt", lambda: Path("/new").write_bytes(b"x"))
        before, register = s.layer_directories(), s.layers.chains.register

        async def cancelled(parent: str, fd: int) -> Layer:
            layer = await register(parent, fd)
            commit.cancel()  # delivered while the end of the helper is waited for
            return layer

        async def work() -> None:
            layer = await s.layers.commit(ID)
            try:
                await asyncio.sleep(0)
                raise AssertionError("it goes on")
            finally:
                await s.layers.release(layer.chain_id)

        s.layers.chains.register = cancelled  # type: ignore[method-assign]
        commit = asyncio.ensure_future(work())
        with pytest.raises(asyncio.CancelledError):
            await commit
        assert s.layer_directories() == before

    run(tmp_path, test)
