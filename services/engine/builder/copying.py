"""COPY and ADD: sources found and summed in the context, an image or at a URL, then copied into a layer."""

from __future__ import annotations

import contextlib
import hashlib
import posixpath
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from reexec.archive.linking import Way
from reexec.archive.rootfs import RootSpec
from reexec.helpers.buildcopy import BuildCopy
from reexec.helpers.buildfind import BuildFind, Found
from reexec.helpers.download import Download, Downloaded
from services.engine.builder import context
from services.engine.builder.output import BuildFailed
from services.engine.builder.refusals import refuse_flags
from services.engine.containers.ids import new_id
from services.engine.dockerfile.instructions import Instruction
from services.engine.helpers import Helpers, ask, document
from services.engine.layers import Layer, LayerManager
from services.engine.scopes import shielded
from services.protocol.errors import InvalidParameter, Unimplemented, WharfError

_URLS = ("http://", "https://")
_GIT = ("git@", "git://", "ssh://")


@dataclass(frozen=True)
class Copy:
    """A step with its words expanded. ``written`` is the destination as in the file, ``destination``
    absolute; ``source`` the context or an image; ``digest`` what the one URL must have ("": anything)."""

    name: str
    source: RootSpec
    sources: tuple[str, ...]
    written: str
    destination: str
    owner: str
    from_context: bool
    digest: str = ""

    @property
    def flags(self) -> str:
        """As the history has them, with a space behind."""
        return f"--chown={self.owner} " if self.owner else ""

    @property
    def is_add(self) -> bool:
        return self.name == "ADD"


@dataclass(frozen=True)
class Origins:
    """Where sources are: the context, or what ``chain`` finds for ``--from``."""

    context: Path
    layers: LayerManager
    chain: Callable[[str], Awaitable[str]]

    async def root(self, origin: str) -> RootSpec:
        """Raises what ``chain`` raises."""
        if not origin:
            return RootSpec(directory=str(self.context))
        return self.layers.image_root(await self.chain(origin))


async def plan(step: Instruction, expand: Callable[[str], str], working_dir: str, origins: Origins) -> Copy:
    """*step* with its words expanded. Raises :class:`BuildFailed` and ``InvalidParameter``."""
    refuse_flags(step, "chmod", "link", "parents", "exclude", "keep-git-dir", "unpack")
    *sources, written = (expand(word) for word in step.args)
    origin = expand(step.flag("from"))
    digest = expand(step.flag("checksum"))
    if digest and (len(sources) != 1 or not sources[0].startswith(_URLS)):
        raise BuildFailed("checksum can only be given for one source that is a URL")
    return Copy(
        name=step.name.upper(),
        source=await origins.root(origin),
        sources=tuple(sources),
        written=written,
        destination=absolute(working_dir, written),
        owner=expand(step.flag("chown")),
        from_context=not origin,
        digest=digest,
    )


@dataclass(frozen=True)
class Located:
    """A source and the root that its path is in."""

    root: RootSpec
    found: Found


@contextlib.asynccontextmanager
async def located(helpers: Helpers, tmp: Path, copy: Copy) -> AsyncIterator[list[Located]]:
    """The sources with their checksums; what was downloaded is there until the end.

    Raises :class:`BuildFailed` ("COPY failed: ...").
    """
    async with contextlib.AsyncExitStack() as stack:
        try:
            found: list[Located] = []
            for source in copy.sources:
                if source.startswith(_URLS) and not copy.is_add:
                    raise InvalidParameter("source can't be a URL for COPY")
                if source.startswith(_URLS):
                    place = await stack.enter_async_context(context.scratch(tmp))
                    found.append(await _download(helpers, place, source, copy))
                elif copy.is_add and source.startswith(_GIT):
                    raise Unimplemented(f"ADD of a git repository is not implemented: {source}")
                else:
                    found += await _find(helpers, copy, source)
            if not found:
                raise InvalidParameter("no source files were specified")
        except BuildFailed:
            raise
        except WharfError as error:
            raise BuildFailed(f"{copy.name} failed: {error}") from error
        if len(found) > 1 and not copy.written.endswith("/"):
            raise BuildFailed(
                f"When using {copy.name} with more than one source file, the destination must be a "
                "directory and end with a /"
            )
        yield found


async def _find(helpers: Helpers, copy: Copy, source: str) -> list[Located]:
    arguments = BuildFind(source=copy.source, sources=[source], unpack=copy.is_add, context=copy.from_context)
    try:
        found = await ask(helpers, document("docker-buildfind", arguments), list[Found])
    except InvalidParameter as error:
        if str(error) == "no source files were specified":
            return []  # a pattern may match nothing as long as another source is there
        raise
    return [Located(copy.source, one) for one in found]


async def _download(helpers: Helpers, place: Path, url: str, copy: Copy) -> Located:
    arguments = document("docker-download", Download(url, str(place)))
    downloaded = await ask(helpers, arguments, Downloaded)
    if not downloaded.name and copy.destination.endswith("/"):
        raise InvalidParameter(f"cannot determine filename for source {url}")
    root = RootSpec(directory=str(place))
    name = posixpath.basename(downloaded.path)
    # Downloads are never unpacked.
    arguments = document("docker-buildfind", BuildFind(source=root, sources=[name], literal=True))
    (found,) = await ask(helpers, arguments, list[Found])
    if copy.digest and copy.digest != downloaded.digest:
        raise InvalidParameter(f"digest mismatch {downloaded.digest}: {copy.digest}")
    return Located(root, found)


def checksum(sources: list[Located]) -> str:
    """``file:<hex>``, ``dir:<hex>`` or ``multi:<hex>``, as the history has it."""
    kinds = [f"{'dir' if one.found.kind == 'dir' else 'file'}:{one.found.checksum}" for one in sources]
    if len(kinds) == 1:
        return kinds[0]
    return "multi:" + hashlib.sha256(",".join(kinds).encode()).hexdigest()


def absolute(working_dir: str, destination: str) -> str:
    """*destination* below the working directory; a slash (or a dot) at its end is kept as a slash."""
    path = posixpath.normpath(posixpath.join("/", working_dir, destination))
    directory = destination.endswith(("/", "/.")) or destination in (".", "..")
    return path + "/" if directory and path != "/" else path


async def copy_into(
    layers: LayerManager,
    helpers: Helpers,
    copy: Copy,
    sources: list[Located],
    chain_id: str,
    *,
    last: bool = False,
) -> Layer:
    """The layer that *copy* makes on *chain_id*, with the caller as a user of it.

    *last*: nobody else will look at the sources. Raises :class:`BuildFailed` ("failed to copy files: ...").
    """
    layer_id = new_id()
    await layers.create(layer_id, chain_id, {})
    try:
        for one in sources:
            arguments = BuildCopy(
                source=one.root,
                found=one.found,
                target=layers.root(layer_id),
                destination=copy.destination,
                owner=copy.owner,
                upper=layers.upper(layer_id),
                way=_way(copy, sources, one, last=last),
            )
            await _copy_one(helpers, arguments)
        return await layers.take(layer_id)
    finally:
        await shielded(layers.remove(layer_id))


def _way(copy: Copy, sources: list[Located], one: Located, *, last: bool) -> Way:
    """How *one* of the sources of a step may come to its place."""
    if any(other is not one and _overlap(other.found.path, one.found.path) for other in sources):
        return Way.COPY  # two names for one file would be links to each other in the layer
    of_context = copy.from_context and one.root == copy.source
    return Way.SHARE if of_context and not last else Way.MOVE


def _overlap(one: str, other: str) -> bool:
    return f"{one}/".startswith(f"{other}/") or f"{other}/".startswith(f"{one}/")


async def _copy_one(helpers: Helpers, arguments: BuildCopy) -> None:
    try:
        await helpers.run(document("docker-buildcopy", arguments))
    except InvalidParameter as error:
        raise BuildFailed(str(error)) from error
    except WharfError as error:
        raise BuildFailed(f"failed to copy files: {error}") from error
