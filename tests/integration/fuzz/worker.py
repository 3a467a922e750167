"""Runs cases through the code that takes archives apart, in a process that has nothing to lose.

``python -m tests.integration.fuzz.worker SEED FIRST END DIRECTORY``: cases FIRST to END, in a mount namespace
of its own, with a small tmpfs at DIRECTORY for the root directory. That root is a canary: a store, and around
it files that no archive may touch, made, changed or removed. What goes wrong is printed as JSON, with the
number of the case; the exit status is 1 then.
"""

from __future__ import annotations

import contextlib
import encodings.idna  # noqa: F401 - behind the root that is to come nothing can be imported
import gc
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import stat
import sys
import time
import traceback
import urllib.parse  # noqa: F401
from collections.abc import Iterator
from pathlib import Path

import msgspec

from reexec.archive import syscalls
from reexec.archive.extract import WHITEOUT, Extractor, Options, Whiteouts
from reexec.archive.streams import FdSource, decompressed, import_decompressors
from reexec.archive.tarfmt import members
from reexec.helpers import applylayer, load, save
from services.engine.images.archive import Archive
from services.engine.images.model import container_config
from services.protocol.errors import Failure, WharfError, to_failure
from tests.integration.fuzz import images, tars

#: Bytes of the file system that cases write to, and of memory beyond what the process starts with.
_DISK, _MEMORY = 48 << 20, 512 << 20
#: Seconds that a case may take.
_TIME = 30
#: Between two looks at the canary. A failed look runs the cases since the last one again, one by one.
_LOOK = 25
_STORE = "/store"


class Wrong(Exception):
    """What a case must not do."""


def confine(directory: str) -> None:
    """The tmpfs at *directory* as the root, filled with the canary."""
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount("none", "/", "", syscalls.MS_REC | syscalls.MS_PRIVATE)
    syscalls.mount("tmpfs", directory, "tmpfs", 0, f"size={_DISK},mode=755")
    os.chroot(directory)
    os.chdir("/")
    for name in ("canary/deep", "etc", "dev", "proc/self/root", "tmp", "store"):
        os.makedirs(name)
    for name in ("canary/file", "canary/deep/file", "etc/passwd", "x", "a", "h", ".wh.canary"):
        with open(name, "w") as file:
            file.write(f"root:x:0:0:{name}:/:/bin/sh\n")
    os.mknod("dev/null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    os.symlink("/canary", "s")


def look() -> dict[str, tuple[object, ...]]:
    """All of the root but the store."""
    found: dict[str, tuple[object, ...]] = {}
    pending = ["/"]
    while pending:
        base = pending.pop()
        for item in os.scandir(base):
            there = item.stat(follow_symlinks=False)
            content = b""
            if item.path == _STORE:
                continue
            if item.is_dir(follow_symlinks=False):
                pending.append(item.path)
            elif item.is_file(follow_symlinks=False):
                with open(item.path, "rb") as file:
                    content = file.read()
            elif item.is_symlink():
                content = os.fsencode(os.readlink(item.path))
            # Not the change time: the store's name is in the root.
            found[item.path] = (
                there.st_mode,
                there.st_uid,
                there.st_nlink,
                there.st_mtime_ns,
                there.st_rdev,
                content,
            )
    return found


@contextlib.contextmanager
def archive_fd(data: bytes) -> Iterator[int]:
    fd = os.memfd_create("case", os.MFD_CLOEXEC)
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(data)
        os.lseek(fd, 0, os.SEEK_SET)
        yield fd
    finally:
        os.close(fd)


class Runner:
    def __init__(self, seed: str) -> None:
        self._seed = seed
        self._root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._canary = look()
        self._descriptors = self._open()

    @staticmethod
    def _open() -> int:
        return len([fd for fd in range(256) if _is_open(fd)])

    def batch(self, first: int, end: int) -> None:
        """Raises :class:`Wrong` with the number of the case."""
        for number in range(first, end):
            self._one(number)
        if (now := look()) != self._canary:
            for number in range(first, end) if end - first > 1 else ():
                self._one(number)
                if look() != now:
                    raise Wrong(f"case {number} has written outside of its directory")
            changed = sorted(set(now.items()) ^ set(self._canary.items()))
            raise Wrong(
                f"one of the cases {first} to {end - 1} has written outside of its directory: {changed}"
            )

    def _one(self, number: int) -> None:
        steps = (self._layer, self._copy, self._image)
        for step in steps if number % 4 == 0 else steps[:1]:
            os.mkdir(f"{_STORE}/case")
            signal.alarm(_TIME)
            try:
                step(number)
            except (WharfError, OSError) as error:
                _check_text(number, error)
            except Wrong as error:
                raise Wrong(f"case {number}: {error}") from error
            except BaseException as error:
                raise Wrong(f"case {number}: {step.__name__}: {traceback.format_exc()}") from error
            finally:
                signal.alarm(0)
                os.fchdir(self._root)
                os.chroot(".")
                shutil.rmtree(f"{_STORE}/case")
        if self._open() != self._descriptors:
            gc.collect()
            if self._open() != self._descriptors:
                raise Wrong(f"case {number} leaves descriptors open")

    def _layer(self, number: int) -> None:
        """As pull, load and import take a layer; what was taken can be put together again."""
        whiteouts = Whiteouts.REMOVE if number % 3 == 0 else Whiteouts.OVERLAY
        os.mkdir(f"{_STORE}/case/layer")
        arguments = applylayer.ApplyLayer(f"{_STORE}/case/layer", whiteouts, split=f"{_STORE}/case/split")
        with archive_fd(tars.layer(number, self._seed)) as fd:
            applied = applylayer.apply(arguments, fd)
        os.fchdir(self._root)
        os.chroot(".")
        digest = hashlib.sha256()
        try:
            for data in save.joined(save.SavedLayer(arguments.directory, arguments.split, applied.diff_id)):
                digest.update(data)
        except WharfError as error:
            # A later entry of the archive may have replaced a file: then it cannot be saved, and says so.
            _check_text(number, error)
            return
        if "sha256:" + digest.hexdigest() != applied.diff_id and _is_plain(tars.layer(number, self._seed)):
            raise Wrong("the layer is another one when it is put together again")

    def _copy(self, number: int) -> None:
        """As ``docker cp`` takes an archive."""
        with archive_fd(tars.layer(number, self._seed)) as fd:
            source = decompressed(FdSource(fd))
            os.chroot(f"{_STORE}/case")
            os.chdir("/")
            Extractor(Options(devices=number % 8 == 0, no_overwrite_dir_non_dir=True)).extract(source)

    def _image(self, number: int) -> None:
        """As ``docker load`` reads an archive's documents."""
        with archive_fd(images.archive(number, self._seed)) as fd:
            loaded = load.unpack(f"{_STORE}/case", fd)
        archive = Archive(Path(f"{_STORE}/case"), loaded)
        for image in archive.images("linux/amd64" if number % 8 == 0 else ""):
            container_config(image.config)
            for layer in image.layers:
                if not os.path.isfile(layer.path) or os.path.islink(layer.path):
                    raise Wrong(f"{layer.path} is no file of the archive")


def _is_plain(data: bytes) -> bool:
    """No entry touches what another one has made: nothing but a digest tells such a layer from a good one."""
    names = []
    with archive_fd(data) as fd:
        for info, _ in members(decompressed(FdSource(fd))):
            if not (info.isreg() or info.isdir()) or WHITEOUT in info.name:
                return False
            names.append(os.path.normpath("/" + info.name))
    return len(names) == len(set(names))


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


#: What users would read of Python, and not of the matter.
_FOREIGN = (
    "[Errno", "Traceback", "object has no attribute", "NoneType", "codec can't", "argument must be", "<class",
    "takes ", "list index", "int too large", "Exceeds the limit", "could not convert",
)  # fmt: skip


def _check_text(number: int, error: WharfError | OSError) -> None:
    """The text as it arrives where users read it."""
    text = msgspec.msgpack.decode(msgspec.msgpack.encode(to_failure(error)), type=Failure).message
    if not text or any(part in text for part in _FOREIGN):
        raise Wrong(f"case {number}: no text for users: {text!r}")


def main() -> int:
    seed, first, end, directory = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    import_decompressors()
    for number in range(50):  # what is imported late is imported now
        tars.compressed(random.Random(number), b"x" * 2000)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    confine(directory)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (used + _MEMORY, used + _MEMORY))
    signal.signal(signal.SIGALRM, _late)
    runner = Runner(seed)
    wrong = []
    started = time.monotonic()
    for number in range(first, end, _LOOK):
        try:
            runner.batch(number, min(end, number + _LOOK))
        except Wrong as error:
            wrong.append(str(error))
            if len(wrong) >= 5:
                break
    print(json.dumps({"wrong": wrong, "seconds": round(time.monotonic() - started, 1)}))
    return 1 if wrong else 0


def _late(*_: object) -> None:
    raise TimeoutError(f"takes longer than {_TIME} s")


if __name__ == "__main__":
    sys.exit(main())
