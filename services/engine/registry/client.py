"""Asks registries through helpers: the bytes go between a socket and a file, never through here."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import msgspec

from reexec.distribution.model import Credentials, Endpoint, Session, Target
from reexec.helpers.login import LoggedIn, Login
from reexec.helpers.pull import PullBlob, Pulled, PulledManifest, PullManifest, PullTags
from reexec.helpers.push import KnownBlob, Probed, PushBlob, Pushed, PushManifest, PushProbe
from services.engine.helpers import Helpers, ask, document
from services.engine.images.references import DEFAULT_DOMAIN, Reference
from services.engine.registry.endpoints import Endpoints
from services.protocol.errors import ErrorKind, Failure, NotFound, WharfError, from_failure
from services.protocol.settings import Settings

#: Names that are looked up at the same time.
_LOOKUPS = 8
#: Manifests that are remembered, by digest: an image that is asked for again costs one HEAD.
_REMEMBERED = 128


@dataclass(frozen=True)
class Manifest:
    """As the registry has it; ``digest`` is that of ``data``."""

    digest: str
    media_type: str
    data: bytes


class Refused(WharfError):
    """The registry's own refusal, ``code`` as it names it."""

    def __init__(self, code: str, failure: Failure) -> None:
        super().__init__(failure.message)
        self.kind = failure.kind
        self.code = code


class RegistryClient:
    """``settings`` is read at each use: mirrors and insecure registries can be reloaded."""

    def __init__(self, helpers: Helpers, settings: Callable[[], Settings]) -> None:
        self.helpers = helpers
        self._settings = settings
        self._manifests: OrderedDict[str, Manifest] = OrderedDict()
        #: A name server that does not answer holds a thread for long: not one of those that everybody uses.
        self._lookups = ThreadPoolExecutor(_LOOKUPS, thread_name_prefix="lookup")

    async def target(
        self, name: Reference, credentials: Credentials, *, push: bool = False, sources: Sequence[str] = ()
    ) -> Target:
        """The repository of *name*."""
        # A name has to be looked up to know whether it is insecure.
        find = functools.partial(self._endpoints.of, name.domain, mirrors=not push)
        found = await asyncio.get_running_loop().run_in_executor(self._lookups, find)
        return Target(found, name.path, credentials, push=push, sources=list(sources))

    async def indexes(self, domain: str) -> list[Endpoint]:
        """Where *domain* may answer a search."""
        find = functools.partial(self._endpoints.index, domain)
        return await asyncio.get_running_loop().run_in_executor(self._lookups, find)

    @property
    def _endpoints(self) -> Endpoints:
        settings = self._settings()
        return Endpoints(settings.registry_mirrors, settings.insecure_registries)

    async def manifest(self, target: Target, reference: str) -> tuple[Manifest, Target]:
        """The manifest of a tag or digest, and *target* narrowed to where it was found.

        Raises :class:`Refused` when the registry does not give it, and other errors where there is none.
        """
        known = dict(self._manifests)  # what is in it may have been forgotten when the answer comes
        arguments = PullManifest(target, reference, list(known))
        with memory("manifest") as fd:
            found = await ask(
                self.helpers, document("docker-pull-manifest", arguments), PulledManifest, {"out": fd}
            )
            data = os.pread(fd, found.size, 0)
        if found.refused:
            raise Refused(found.code, Failure(ErrorKind(found.kind), found.refused))
        if found.known:
            manifest = known[found.digest]
        else:
            manifest = Manifest(found.digest, found.media_type, data)
        self._remember(manifest)
        return manifest, narrowed(target, found.session)

    def _remember(self, manifest: Manifest) -> None:
        self._manifests[manifest.digest] = manifest
        self._manifests.move_to_end(manifest.digest)
        while len(self._manifests) > _REMEMBERED:
            self._manifests.popitem(last=False)

    async def tags(self, target: Target) -> tuple[list[str], Target]:
        """All tags of the repository; otherwise like :meth:`manifest`."""
        with memory("tags") as fd:
            arguments = document("docker-pull-tags", PullTags(target))
            found = await ask(self.helpers, arguments, PulledManifest, {"out": fd})
            data = os.pread(fd, found.size, 0)
        if found.refused:
            raise Refused(found.code, Failure(ErrorKind(found.kind), found.refused))
        return msgspec.json.decode(data, type=list[str]), narrowed(target, found.session)

    async def blob(self, target: Target, digest: str, fd: int, *, size: int = -1, limit: int = -1) -> Pulled:
        """See ``docker-pull-blob``."""
        arguments = PullBlob(target, digest, size, limit)
        return await ask(self.helpers, document("docker-pull-blob", arguments), Pulled, {"out": fd})

    async def login(self, address: str, credentials: Credentials) -> str:
        """Whether the registry at *address* ("" is Docker Hub) lets them in; returns its identity token."""
        domain = address.partition("://")[2] or address
        reference = Reference(domain.partition("/")[0] or DEFAULT_DOMAIN, "")
        target = await self.target(reference, credentials, push=True)
        answer = await ask(self.helpers, document("docker-login", Login(target)), LoggedIn)
        return answer.identity_token

    async def probe(self, target: Target, known: Sequence[KnownBlob]) -> Probed:
        """See ``docker-push-probe``; without *known* it only lets us in."""
        arguments = document("docker-push-probe", PushProbe(target, list(known)))
        return await ask(self.helpers, arguments, Probed)

    async def push_blob(self, target: Target, digest: str, fd: int, size: int) -> Pushed:
        arguments = document("docker-push-blob", PushBlob(target, digest, size))
        return await ask(self.helpers, arguments, Pushed, {"in": fd})

    async def push_manifest(self, target: Target, tag: str, media_type: str, data: bytes) -> None:
        with memory("manifest") as fd:
            os.pwrite(fd, data, 0)
            arguments = document("docker-push-manifest", PushManifest(target, tag, media_type))
            await ask(self.helpers, arguments, Pushed, {"in": fd})


def narrowed(target: Target, session: Session) -> Target:
    """*target* at the endpoint that answered, let in already."""
    return msgspec.structs.replace(target, endpoints=[session.endpoint], authorization=session.authorization)


def translated(error: Refused, name: Reference) -> WharfError:
    """A refused pull, in dockerd's words (moby ``distribution/errors.go``)."""
    if error.code == "DENIED":
        return NotFound(
            f"pull access denied for {name.familiar_name}, repository does not exist or may require "
            f"'docker login': {error}"
        )
    if error.code == "MANIFEST_UNKNOWN":
        return NotFound(f"manifest for {name.familiar} not found: {error}")
    if error.code == "NAME_UNKNOWN":
        return NotFound(f"repository {name.familiar_name} not found: {error}")
    return from_failure(error.to_failure())


@contextlib.contextmanager
def memory(name: str) -> Iterator[int]:
    """A descriptor of memory, for what a helper hands over and a message cannot hold."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)
