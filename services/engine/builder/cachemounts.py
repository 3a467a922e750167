"""The directories behind ``RUN --mount=type=cache``: found by their id, used by builds at the same time.

Below ``<data-root>/buildcache``, one directory each::

    <name>/data/       what a step sees          <name>/about.json   whose it is, when it was used
    .new-*, .gone-*    half made, half removed: swept at the next start

A mount that was made empty and is still empty when its first users leave is not kept, nor is one that a
crash has kept from being used.

An id can have several: ``sharing=private`` gets another one while the first is in use. Who uses which
is known to this process only; a step that a crash has cut off is removed before the next build begins.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import msgspec

from services.engine.helpers import Helpers, ask
from services.engine.scopes import Background, settled, shielded
from services.protocol.errors import Conflict, NotFound, WharfError

log = logging.getLogger(__name__)

_NEW, _GONE = ".new-", ".gone-"
_DATA, _ABOUT = "data", "about.json"
#: Seconds until a failed deletion is tried again, and how often that is.
_RETRY, _ATTEMPTS = 5.0, 5

#: Fills the directory of a new cache mount.
Fill = Callable[[Path], Awaitable[None]]


class CacheMount(msgspec.Struct, kw_only=True):
    """``key`` is the id with what it began as; ``description`` is for people. Times are Unix
    nanoseconds, 0 is never; ``uses`` counts steps."""

    name: str
    key: str
    description: str
    created: int
    used: int = 0
    uses: int = 0


class CacheMounts:
    """Of a daemon. Constructing it finds what a crash left, for :meth:`sweep`."""

    def __init__(self, root: Path, helpers: Helpers, background: Background) -> None:
        self._root = root
        self._helpers = helpers
        self._background = background
        self._mounts: dict[str, CacheMount] = {}
        #: Steps that use a mount, and the mounts that are one step's alone.
        self._users: dict[str, int] = {}
        self._exclusive: set[str] = set()
        self._removing: set[str] = set()
        #: Keys of mounts that are being made: who wants the same one waits for it.
        self._making: set[str] = set()
        self._changed = asyncio.Condition()
        #: Made empty, and not given back since.
        self._empty: set[str] = set()
        self._left: list[Path] = []
        self._load()

    def _load(self) -> None:
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in self._root.iterdir():
            if (about := _found(path)) is None:
                self._left.append(path)
            else:
                self._mounts[about.name] = about
                # Written beside it, and not put in its place any more.
                self._left += path.glob(f"{_ABOUT}.*")

    async def sweep(self) -> None:
        """Delete what a crash left; at start-up, once."""
        left, self._left = self._left, []
        for path in left:
            await self._delete(path)

    async def _delete(self, path: Path) -> None:
        """Of what nobody can find any more. Goes on without a caller that is cancelled, and tries again what
        fails behind its back."""
        tried = asyncio.Event()
        trying = self._background.spawn(self._try(path, tried), name="cache mount")
        trying.add_done_callback(lambda _: tried.set())  # it may be cancelled before it begins
        await tried.wait()

    async def _try(self, path: Path, tried: asyncio.Event) -> None:
        for attempt in range(_ATTEMPTS):
            if attempt:
                await asyncio.sleep(_RETRY)
            try:
                await self._helpers.run(["docker-remove", str(path)])
                return
            except WharfError as error:
                log.warning("what is left of a cache mount is not deleted yet: %s", error)
            finally:
                tried.set()
        log.error("what is left of a cache mount stays until the next start: %s", path.name)

    def list(self) -> list[CacheMount]:
        """All there are, the least recently used first."""
        return sorted(self._mounts.values(), key=lambda one: max(one.used, one.created))

    def in_use(self, name: str) -> bool:
        return bool(self._users.get(name))

    async def size(self, name: str) -> int:
        """Bytes of all files. Raises ``NotFound``."""
        self._find(name)
        return await ask(self._helpers, ["docker-size", str(self._root / name / _DATA)], int)

    async def remove(self, name: str) -> None:
        """Raises ``NotFound``, and ``Conflict`` while a step uses it."""
        self._find(name)
        if self.in_use(name) or name in self._removing:
            raise Conflict(f"cache mount {name} is in use")
        self._removing.add(name)
        await self._discard(name)

    async def _discard(self, name: str) -> None:
        """Of a mount that nobody can take any more."""
        gone = self._root / f"{_GONE}{name}"
        try:
            with contextlib.suppress(FileNotFoundError):  # somebody was faster, by hand
                await settled(asyncio.to_thread(os.rename, self._root / name, gone))
            del self._mounts[name]
        finally:
            self._removing.discard(name)
        await self._delete(gone)

    def _find(self, name: str) -> CacheMount:
        try:
            return self._mounts[name]
        except KeyError:
            raise NotFound(f"no such cache mount: {name}") from None

    @contextlib.asynccontextmanager
    async def hold(self, key: str, description: str, sharing: str, fill: Fill) -> AsyncIterator[Path]:
        """The directory for a step: ``shared`` with other steps that share, ``private`` to it, or
        ``locked``, when it waits until nobody else has it."""
        taken = await self._take(key, sharing)
        name = taken or secrets.token_hex(16)
        try:
            if not taken:
                await self._make(name, key, description, sharing, fill)
            yield self._root / name / _DATA
        finally:
            # Also one that was made at the moment in which the caller was cancelled.
            if name in self._users:
                await shielded(self._give_back(name))

    async def _take(self, key: str, sharing: str) -> str:
        """One that is there and may be used by one more; "": make another."""
        async with self._changed:
            while True:
                if key in self._making:
                    await self._changed.wait()
                    continue
                ours = [n for n, one in self._mounts.items() if one.key == key and n not in self._removing]
                for name in ours:
                    if not self.in_use(name) or (sharing == "shared" and name not in self._exclusive):
                        self._use(name, sharing)
                        return name
                if sharing != "locked" or not ours:
                    self._making.add(key)
                    return ""
                await self._changed.wait()

    def _use(self, name: str, sharing: str) -> None:
        self._users[name] = self._users.get(name, 0) + 1
        if sharing != "shared":
            self._exclusive.add(name)

    async def _make(self, name: str, key: str, description: str, sharing: str, fill: Fill) -> None:
        mount = CacheMount(name=name, key=key, description=description, created=time.time_ns())
        fresh = self._root / f"{_NEW}{name}"
        try:
            await settled(asyncio.to_thread(_prepare, fresh, mount))
            await fill(fresh / _DATA)
            empty = await asyncio.to_thread(_is_empty, fresh)
            await settled(asyncio.to_thread(os.rename, fresh, self._root / name))
            self._mounts[name] = mount
            self._use(name, sharing)
            if empty:
                self._empty.add(name)
        except BaseException:
            await shielded(self._delete(fresh))
            raise
        finally:
            await shielded(self._made(key))

    async def _made(self, key: str) -> None:
        async with self._changed:
            self._making.discard(key)
            self._changed.notify_all()

    async def _give_back(self, name: str) -> None:
        mount = self._mounts[name]
        mount.used, mount.uses = time.time_ns(), mount.uses + 1
        try:
            await asyncio.to_thread(_write, self._root / name, mount)
        except OSError:
            log.exception("the use of cache mount %s was not written down", name)
        unused = False
        async with self._changed:
            self._users[name] -= 1
            if not self._users[name]:
                del self._users[name]
                self._exclusive.discard(name)
                unused = await self._drop(name)
            self._changed.notify_all()
        if unused:
            await self._discard(name)

    async def _drop(self, name: str) -> bool:
        """Of a mount without users, with the lock: nobody takes it any more if it has stayed empty."""
        if name not in self._empty:
            return False
        self._empty.discard(name)
        with contextlib.suppress(OSError):
            if await asyncio.to_thread(_is_empty, self._root / name):
                self._removing.add(name)
                return True
        return False


def _found(path: Path) -> CacheMount | None:
    """What *path* is, if it is a finished mount, and one that is to be kept."""
    try:
        about = msgspec.json.decode((path / _ABOUT).read_bytes(), type=CacheMount)
        unused = not about.uses and _is_empty(path)
    except (OSError, msgspec.MsgspecError):
        return None
    return about if path.name == about.name and not unused else None


def _is_empty(mount: Path) -> bool:
    with os.scandir(mount / _DATA) as entries:
        return next(entries, None) is None


def _prepare(directory: Path, mount: CacheMount) -> None:
    directory.mkdir(mode=0o700)
    (directory / _DATA).mkdir()
    _write(directory, mount)


def _write(directory: Path, mount: CacheMount) -> None:
    fresh = directory / f"{_ABOUT}.{secrets.token_hex(4)}"
    fresh.write_bytes(msgspec.json.encode(mount))
    os.replace(fresh, directory / _ABOUT)
