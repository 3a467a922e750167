"""COPY and ADD: sources found and summed in the context, an image or at a URL, then copied into a layer."""

from __future__ import annotations

import contextlib
import hashlib
import posixpath
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from reexec.archive.linking import Way
from reexec.archive.rootfs import RootSpec
from reexec.helpers.buildcopy import BuildCopy
from reexec.helpers.patterns import is_pattern
from services.engine.builder.copyoptions import URLS, Options, read_options
from services.engine.builder.copysources import Fetch, Located
from services.engine.builder.git import is_git
from services.engine.builder.output import BuildFailed
from services.engine.containers.ids import new_id
from services.engine.dockerfile.heredocs import Heredoc, of_word
from services.engine.dockerfile.instructions import Instruction
from services.engine.dockerfile.settings import Expand
from services.engine.helpers import Helpers, document
from services.engine.layers import Layer, LayerManager
from services.engine.scopes import settled
from services.protocol.errors import InvalidParameter, WharfError

#: The root of what has no layers.
NOTHING = RootSpec()


@dataclass(frozen=True)
class Origins:
    """Where sources are: the context (None: there is none), or what ``chain`` finds for ``--from``."""

    context: Path | None
    layers: LayerManager
    chain: Callable[[str], Awaitable[str]]

    async def root(self, origin: str) -> RootSpec:
        """Raises what ``chain`` raises."""
        if not origin:
            return RootSpec(directory=str(self.context or ""))
        chain = await self.chain(origin)
        return self.layers.image_root(chain) if chain else NOTHING


@dataclass(frozen=True)
class Copy:
    """A step with its words expanded. ``written`` is the destination as in the file, ``destination``
    absolute; ``source`` the context or an image; ``documents`` the here-documents among ``sources``."""

    name: str
    source: RootSpec
    sources: tuple[str, ...]
    documents: Mapping[str, Heredoc]
    written: str
    destination: str
    from_context: bool
    options: Options

    @property
    def flags(self) -> str:
        """As the history has them, with a space behind."""
        return self.options.words

    @property
    def is_add(self) -> bool:
        return self.name == "ADD"


async def plan(
    step: Instruction, expand: Expand, expand_raw: Expand, working_dir: str, origins: Origins
) -> Copy:
    """*step* with its words expanded; *expand_raw* leaves quotes alone (here-documents).

    Raises :class:`BuildFailed` and ``InvalidParameter``.
    """
    documents = {one.name: one for one in step.node.heredocs}
    *words, last = step.args
    found: dict[str, Heredoc] = {}
    sources: list[str] = []
    for word in words:
        begun = of_word(word) if documents and not step.is_json else None
        if begun is None:
            sources.append(expand(word))
            continue
        document = documents[begun.name]
        content = expand_raw(document.data) if document.expand else document.data
        found[word] = replace(document, content=content, chomp=False)
        sources.append(word)
    written = expand(last)
    options = read_options(step, expand, [source for source in sources if source not in found])
    origin = step.flag("from")  # no variables here, in BuildKit neither
    return Copy(
        name=step.name.upper(),
        source=await origins.root(origin),
        sources=tuple(sources),
        documents=found,
        written=written,
        destination=absolute(working_dir, written),
        from_context=not origin,
        options=options,
    )


@contextlib.asynccontextmanager
async def located(helpers: Helpers, tmp: Path, copy: Copy) -> AsyncIterator[list[Located]]:
    """The sources with their checksums; what was downloaded is there until the end.

    Raises :class:`BuildFailed` ("COPY failed: ...").
    """
    async with contextlib.AsyncExitStack() as stack:
        fetch = Fetch(helpers, tmp, stack, copy.options, to_directory=copy.destination.endswith("/"))
        try:
            found = [one for source in copy.sources for one in await _locate(fetch, copy, source)]
            if not found and not copy.options.excludes:
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


async def _locate(fetch: Fetch, copy: Copy, source: str) -> list[Located]:
    if source in copy.documents:
        return [await fetch.document(copy.documents[source])]
    if copy.is_add and is_git(source):
        return await fetch.repository(source)
    if source.startswith(URLS):
        if not copy.is_add:
            raise InvalidParameter("source can't be a URL for COPY")
        return [await fetch.download(source)]
    unpack = copy.is_add and copy.options.unpack is not False
    try:
        if copy.from_context and not copy.source.directory:
            raise InvalidParameter("missing build context")
        if copy.source == NOTHING:
            return _in_nothing(source)
        return await fetch.find(copy.source, source, unpack=unpack, context=copy.from_context)
    except InvalidParameter as error:
        if str(error) == "no source files were specified":
            return []  # a pattern may match nothing as long as another source is there
        raise


def _in_nothing(source: str) -> list[Located]:
    if is_pattern(source):
        return []
    raise InvalidParameter(f"stat {source.lstrip('/')}: file does not exist")


def checksum(sources: list[Located]) -> str:
    """``file:<hex>``, ``dir:<hex>`` or ``multi:<hex>``, as the history has it; a download has no prefix."""
    kinds = [
        one.found.checksum
        if one.downloaded
        else f"{'dir' if one.found.kind == 'dir' else 'file'}:{one.found.checksum}"
        for one in sources
    ]
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
    newest: int | None = None,
) -> Layer:
    """The layer that *copy* makes on *chain_id*, with the caller as a user of it.

    *last*: nobody else will look at the sources. *newest*: Unix seconds that no file is to be after.
    Raises :class:`BuildFailed` ("failed to copy files: ...").
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
                owner=copy.options.owner,
                keep_owners=not copy.from_context and not copy.options.owner,
                mode=copy.options.mode,
                excludes=list(copy.options.excludes),
                anew=copy.options.link,
                upper=layers.upper(layer_id),
                way=_way(copy, sources, one, last=last),
            )
            await _copy_one(helpers, arguments)
        return await layers.take(layer_id, newest)
    finally:
        # Who is cancelled meanwhile gets what was made all the same, and gives it back.
        await settled(layers.remove(layer_id))


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
