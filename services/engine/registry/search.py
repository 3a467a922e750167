"""``GET /images/search``. Source of rules and texts: moby ``daemon/pkg/registry/search.go``."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence

import msgspec

from reexec.distribution.model import Credentials
from reexec.helpers.search import Search, Searched
from services.engine.helpers import ask, document
from services.engine.images.listing import boolean_filter, check_filters
from services.engine.images.references import DEFAULT_DOMAIN, LEGACY_DOMAIN, OFFICIAL_PREFIX
from services.engine.registry.client import RegistryClient, memory
from services.protocol.errors import InvalidParameter, SystemError_

_FILTERS = {"is-automated", "is-official", "stars"}
_DEFAULT_LIMIT, _MAX_LIMIT = 25, 100

Filters = Mapping[str, Sequence[str]]


class Result(msgspec.Struct, frozen=True):
    star_count: int = 0
    is_official: bool = False
    name: str = ""
    is_automated: bool = False
    description: str = ""


class _Answer(msgspec.Struct, frozen=True):
    results: list[Result] | None = None


async def search(
    registry: RegistryClient, term: str, limit: int, filters: Filters, credentials: Credentials
) -> bytes:
    """The results as JSON; *limit* 0 is the default. Raises ``InvalidParameter``, ``SystemError_``."""
    check_filters(filters, _FILTERS)
    # Nothing is automated any more, whatever an index says.
    if boolean_filter(filters, "is-automated", False):
        return b"[]"
    official = boolean_filter(filters, "is-official", False)
    stars = max((_stars(text) for text in filters.get("stars", ())), default=0)
    found = await _results(registry, term, limit, credentials)
    kept = [
        msgspec.structs.replace(result, is_automated=False)
        for result in found
        if ("is-official" not in filters or result.is_official == official)
        and ("stars" not in filters or result.star_count >= stars)
    ]
    return msgspec.json.encode(kept)


def _stars(text: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]+", text, re.ASCII):
        raise InvalidParameter(
            f"invalid filter 'stars={text}': strconv.Atoi: parsing \"{text}\": invalid syntax"
        )
    return int(text)


async def _results(
    registry: RegistryClient, term: str, limit: int, credentials: Credentials
) -> Sequence[Result]:
    if "://" in term:
        raise InvalidParameter(f"invalid repository name: repository name ({term}) should not have a scheme")
    domain, name = _split(term)
    endpoints = await registry.indexes(domain)
    limit = limit or _DEFAULT_LIMIT
    if not 1 <= limit <= _MAX_LIMIT:
        raise InvalidParameter(f"limit {limit} is outside the range of [1, {_MAX_LIMIT}]")
    arguments = document("docker-search", Search(endpoints, name, limit, credentials))
    with memory("search") as fd:
        answer = await ask(registry.helpers, arguments, Searched, {"out": fd})
        data = os.pread(fd, answer.size, 0)
    try:
        return msgspec.json.decode(data, type=_Answer).results or []
    except msgspec.MsgspecError as error:
        raise SystemError_(f"error decoding registry search results: {error}") from error


def _split(term: str) -> tuple[str, str]:
    """The index and what to look for there; of Docker's own, ``library/`` is left out."""
    first, slash, rest = term.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        domain, name = first, rest
    else:
        domain, name = DEFAULT_DOMAIN, term
    if domain in (DEFAULT_DOMAIN, LEGACY_DOMAIN):
        return DEFAULT_DOMAIN, name.removeprefix(OFFICIAL_PREFIX)
    return domain, name
