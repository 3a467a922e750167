"""Where the sources of COPY and ADD come from: found in a root, downloaded, cloned, or in the Dockerfile."""

from __future__ import annotations

import asyncio
import hashlib
import posixpath
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from reexec.archive.rootfs import RootSpec
from reexec.helpers.buildfind import BuildFind, Found
from reexec.helpers.download import Download, Downloaded
from services.engine.builder import context, git
from services.engine.builder.copyoptions import Options
from services.engine.dockerfile.heredocs import Heredoc
from services.engine.helpers import Helpers, ask, document
from services.protocol.errors import InvalidParameter

#: Permissions of a here-document's file.
_DOCUMENT_MODE = 0o644


@dataclass(frozen=True)
class Located:
    """A source and the root that its path is in; ``downloaded`` from a URL."""

    root: RootSpec
    found: Found
    downloaded: bool = False


@dataclass(frozen=True)
class Fetch:
    """Of one step; what it makes below ``tmp`` is there until ``stack`` ends. ``to_directory``: the
    destination is one, so that every source needs a name."""

    helpers: Helpers
    tmp: Path
    stack: AsyncExitStack
    options: Options
    to_directory: bool

    async def find(self, root: RootSpec, source: str, *, unpack: bool, context: bool) -> list[Located]:
        """Raises ``InvalidParameter``."""
        arguments = BuildFind(
            source=root,
            sources=[source],
            unpack=unpack,
            context=context,
            excludes=list(self.options.excludes),
            parents=self.options.parents,
        )
        found = await ask(self.helpers, document("docker-buildfind", arguments), list[Found])
        return [Located(root, one) for one in found]

    async def document(self, one: Heredoc) -> Located:
        place = await self._place()
        name = posixpath.basename(one.name)
        if name in ("", ".", ".."):
            raise InvalidParameter(f"invalid name of a heredoc: {one.name}")
        await asyncio.to_thread(_write, place / name, one.content)
        return await self._literal(place, name, unpack=False)

    async def download(self, url: str) -> Located:
        """Raises ``InvalidParameter``, also for another digest than the one that is wanted."""
        place = await self._place()
        wanted = self.options.checksum
        algorithm = wanted.partition(":")[0] or "sha256"
        arguments = document("docker-download", Download(url, str(place), algorithm=algorithm))
        downloaded = await ask(self.helpers, arguments, Downloaded)
        if not downloaded.name and self.to_directory:
            raise InvalidParameter(f"cannot determine filename for source {url}")
        if wanted and wanted != downloaded.digest:
            raise InvalidParameter(f"digest mismatch {downloaded.digest}: {wanted}")
        # Downloads are unpacked at request only.
        name = posixpath.basename(downloaded.path)
        return replace(await self._literal(place, name, unpack=bool(self.options.unpack)), downloaded=True)

    async def repository(self, url: str) -> list[Located]:
        """A checkout's content."""
        checkout = await git.clone(
            self.helpers,
            url,
            await self._place(),
            default_ref="HEAD",
            keep_git_dir=self.options.keep_git_dir,
            checksum=self.options.checksum,
        )
        root = RootSpec(directory=str(checkout.path))
        arguments = BuildFind(source=root, sources=["."], excludes=list(self.options.excludes))
        found = await ask(self.helpers, document("docker-buildfind", arguments), list[Found])
        if self.options.keep_git_dir:
            # No two clones have the same files below ``.git``; the commit says what they are.
            named = f"{checkout.commit} {git.parse(url).subdirectory} {self.options.excludes}"
            digest = hashlib.sha256(named.encode()).hexdigest()
            found = [msgspec.structs.replace(one, checksum=digest) for one in found]
        return [Located(root, one) for one in found]

    async def _place(self) -> Path:
        return await self.stack.enter_async_context(context.scratch(self.tmp))

    async def _literal(self, place: Path, name: str, *, unpack: bool) -> Located:
        root = RootSpec(directory=str(place))
        arguments = BuildFind(source=root, sources=[name], literal=True, unpack=unpack)
        (found,) = await ask(self.helpers, document("docker-buildfind", arguments), list[Found])
        return Located(root, found)


def _write(path: Path, text: str) -> None:
    path.write_text(text, newline="")
    path.chmod(_DOCUMENT_MODE)
