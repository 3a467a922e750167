"""``GET /images/json``: which images, in which order, with which of their names."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from services.engine.contracts import ContainerUsers
from services.engine.images.model import GO_ZERO, Record
from services.engine.images.references import Reference
from services.engine.images.store import ImageStore
from services.engine.images.timestamps import parse_time
from services.engine.layers import LayerManager
from services.protocol.api.images import ImageSummary
from services.protocol.errors import InvalidParameter

_LIST_FILTERS = {"dangling", "label", "before", "since", "reference", "until"}
_TRUE, _FALSE = {"1", "true"}, {"0", "false"}

Filters = Mapping[str, Sequence[str]]


def check_filters(filters: Filters, known: set[str]) -> None:
    """Raises ``InvalidParameter`` for a filter that is not *known*."""
    for name in filters:
        if name not in known:
            raise InvalidParameter(f"invalid filter '{name}'")


def boolean_filter(filters: Filters, name: str, default: bool) -> bool:
    """Raises ``InvalidParameter`` where the values say neither or both ("invalid filter 'dangling=[maybe]'").

    The docker command adds its own value to what its user has given.
    """
    if name not in filters:
        return default
    values = list(filters[name])
    true, false = not _TRUE.isdisjoint(values), not _FALSE.isdisjoint(values)
    if true != false:
        return true
    raise InvalidParameter(f"invalid filter '{name}=[{' '.join(values)}]'")


def until_filter(filters: Filters, *, several: bool = False) -> float | None:
    """Unix seconds; of *several* the earliest. Raises ``InvalidParameter``."""
    values = list(filters.get("until", ()))
    if not values:
        return None
    if len(values) > 1 and not several:
        raise InvalidParameter("more than one until filter specified")
    try:
        return min(parse_time(value, time.time()) for value in values)
    except ValueError as error:
        raise InvalidParameter(f"invalid value for 'until' filter: {error}") from error


def match_labels(filters: Filters, labels: Mapping[str, str]) -> bool:
    """All of ``label`` and none of ``label!`` (``key`` or ``key=value``)."""

    def has(text: str) -> bool:
        key, equals, value = text.partition("=")
        return key in labels and (not equals or labels[key] == value)

    wanted, unwanted = filters.get("label", ()), filters.get("label!", ())
    return all(has(text) for text in wanted) and not (unwanted and any(has(text) for text in unwanted))


def glob(pattern: str) -> re.Pattern[str]:
    """Go's ``path.Match``: ``*`` and ``?`` stop at a slash. Raises ``InvalidParameter``."""
    out, i = "", 0
    while i < len(pattern):
        char = pattern[i]
        i += 1
        if char == "*":
            out += "[^/]*"
        elif char == "?":
            out += "[^/]"
        elif char == "[":
            end = pattern.find("]", i + 1)
            if end < 0:
                raise InvalidParameter("syntax error in pattern")
            body = pattern[i:end].replace("\\", "\\\\")
            out += f"[^{body[1:]}]" if body.startswith("^") else f"[{body}]"
            i = end + 1
        elif char == "\\":
            if i == len(pattern):
                raise InvalidParameter("syntax error in pattern")
            out += re.escape(pattern[i])
            i += 1
        else:
            out += re.escape(char)
    try:
        return re.compile(out, re.DOTALL)
    except re.error as error:
        raise InvalidParameter("syntax error in pattern") from error


def reference_filter(patterns: Sequence[str]) -> Callable[[Reference], bool]:
    """Matches the familiar name with or without its tag."""
    compiled = [glob(pattern) for pattern in patterns]

    def match(reference: Reference) -> bool:
        return any(p.fullmatch(reference.familiar) or p.fullmatch(reference.familiar_name) for p in compiled)

    return match


class Lister:
    def __init__(self, store: ImageStore, layers: LayerManager, containers: ContainerUsers) -> None:
        self._store = store
        self._layers = layers
        self._containers = containers

    def size(self, record: Record) -> int:
        """Bytes of an image's layers."""
        return sum(layer.size for layer in self._layers.chains.lineage(record.chain_id))

    def list(self, *, all: bool = False, filters: Filters, shared_size: bool = False) -> list[ImageSummary]:
        check_filters(filters, _LIST_FILTERS)
        dangling = boolean_filter(filters, "dangling", False)
        selects = self._selector(filters)
        named = reference_filter(filters["reference"]) if filters.get("reference") else None
        users = Counter(use.image_id for use in self._containers())
        found: list[tuple[Record, ImageSummary]] = []
        for record in self._store:
            children = self._store.children(record.id)
            hidden = not all and not self._store.references(record.id)
            if (children and (dangling or hidden)) or not selects(record):
                continue
            summary = self._summary(record, named)
            if summary.repo_tags or summary.repo_digests:
                if dangling and summary.repo_tags:
                    continue
            elif named is not None or ("dangling" in filters and not dangling) or (children and not all):
                continue
            summary.containers = users[record.id]
            found.append((record, summary))
        if shared_size:
            self._share(found)
        found.sort(key=lambda item: (item[1].created, item[0].created), reverse=True)
        return [summary for _, summary in found]

    def _selector(self, filters: Filters) -> Callable[[Record], bool]:
        before = self._times(filters.get("before", ()))
        since = max(self._times(filters.get("since", ())), default=GO_ZERO)
        until = until_filter(filters, several=True)
        limit = min(before if until is None else (*before, until), default=None)

        def selects(record: Record) -> bool:
            # Go's zero time is none; what was created nobody knows when is neither before nor after.
            return (
                (limit is None or GO_ZERO < record.created < limit)
                and (since == GO_ZERO or record.created > since)
                and match_labels(filters, record.labels)
            )

        return selects

    def _times(self, references: Sequence[str]) -> tuple[float, ...]:
        """When images were created that have a time. Raises ``NotFound`` and ``InvalidParameter``."""
        times = [self._store.get(ref).created for ref in references]
        return tuple(created for created in times if created > GO_ZERO)

    def _summary(self, record: Record, named: Callable[[Reference], bool] | None) -> ImageSummary:
        references = [r for r in self._store.references(record.id) if named is None or named(r)]
        return ImageSummary(
            id=record.id,
            parent_id=record.parent,
            repo_tags=[r.familiar for r in references if not r.digest],
            repo_digests=[r.familiar for r in references if r.digest],
            created=int(record.created) if record.config.created else 0,
            size=self.size(record),
            labels=record.container_config.labels,
        )

    def _share(self, found: Sequence[tuple[Record, ImageSummary]]) -> None:
        users = Counter(
            layer.chain_id for record in self._store for layer in self._layers.chains.lineage(record.chain_id)
        )
        for record, summary in found:
            lineage = self._layers.chains.lineage(record.chain_id)
            summary.shared_size = sum(layer.size for layer in lineage if users[layer.chain_id] > 1)
