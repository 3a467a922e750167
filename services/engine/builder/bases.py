"""Images that a build begins with or copies from: those that are here, else pulled."""

from __future__ import annotations

import base64
import binascii
import contextlib
import logging
from contextlib import aclosing

import msgspec

from reexec.distribution.model import Credentials
from services.engine.builder.output import BuildFailed, Speech
from services.engine.images import ImageManager
from services.engine.images.model import Record
from services.engine.images.references import Reference, parse
from services.engine.images.transfers import Transfers
from services.engine.registry import platforms
from services.engine.registry.credentials import AuthConfig
from services.engine.scopes import KeyedLocks
from services.protocol.errors import NotFound

_RESERVED = "scratch"

log = logging.getLogger(__name__)

#: What the docker command calls Docker Hub in its credentials.
_HUB = "https://index.docker.io/v1/"


class Bases:
    """Of one build. ``registry_config`` is ``X-Registry-Config``; ``pins`` gets the ids of what is given;
    ``always`` pulls even what is here."""

    def __init__(
        self,
        images: ImageManager,
        transfers: Transfers,
        registry_config: str,
        pins: set[str],
        *,
        always: bool,
    ) -> None:
        self._images = images
        self._transfers = transfers
        self._accounts = _accounts(registry_config)
        self._pins = pins
        self._always = always
        self._pulled: set[str] = set()
        #: Stages that want the same image at the same time pull it once.
        self._locks = KeyedLocks()

    async def get(self, name: str, platform: str, output: Speech) -> Record:
        """Tells *output* of a pull. Raises what pulling raises."""
        async with self._locks.hold(name):
            return await self._get(name, platform, output)

    async def _get(self, name: str, platform: str, output: Speech) -> Record:
        if not self._always or name in self._pulled:
            with contextlib.suppress(NotFound):
                return self._local(name, platform)
        await self._pull(name, platform, output)
        self._pulled.add(name)
        return self._local(name, platform)

    def _local(self, name: str, platform: str) -> Record:
        record = self._images.store.by_id(self._images.resolve(name, platform).id)
        if record is None:
            raise NotFound(f"No such image: {name}")
        self._pins.add(record.id)
        return record

    async def _pull(self, name: str, platform: str, output: Speech) -> None:
        reference = parse(name)
        if reference.familiar_name == _RESERVED:
            raise BuildFailed(f"'{_RESERVED}' is a reserved name")
        if not reference.digest:
            reference = reference.with_default_tag()
        wanted = platforms.parse(platform) if platform else None
        items = self._transfers.puller.pull(reference, wanted, self._credentials(reference))
        async with aclosing(items) as lines:
            async for line in lines:
                if error := msgspec.json.decode(line, type=_Line).error:
                    raise BuildFailed(error)
                await output.progress(line)

    def _credentials(self, reference: Reference) -> Credentials:
        for host in (reference.domain, f"https://{reference.domain}", *_HUBS.get(reference.domain, ())):
            if (account := self._accounts.get(host)) is not None:
                return account.credentials()
        return Credentials()


_HUBS = {"docker.io": (_HUB, "index.docker.io")}


class _Line(msgspec.Struct):
    error: str = ""


def _accounts(header: str) -> dict[str, AuthConfig]:
    if not header:
        return {}
    try:
        data = base64.b64decode(header + "=" * (-len(header) % 4), altchars=b"-_")
        return msgspec.json.decode(data, type=dict[str, AuthConfig]) if data else {}
    except (binascii.Error, msgspec.MsgspecError, ValueError) as error:
        log.warning("X-Registry-Config is not readable, and left out as dockerd does: %s", error)
        return {}
