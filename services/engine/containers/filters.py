"""Filters of ``docker ps`` and ``docker container prune``: their names, values and meaning.

All names must match, one of each name's values; labels must match all. moby ``daemon/list.go``.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Mapping, Sequence

from services.engine.containers.model import Entry, MountKind
from services.engine.containers.registry import Registry
from services.engine.containers.show import networks
from services.engine.containers.transitions import ACTIVE
from services.engine.containers.values import go_quote, parse_bool
from services.engine.contracts import ImageService
from services.protocol.errors import InvalidParameter, NotFound

Filters = Mapping[str, Sequence[str]]
Test = Callable[[Entry], bool]

_LIST_NAMES = (
    "ancestor before exited expose health id is-task isolation label name network publish since status volume"
)
_LIST = frozenset(_LIST_NAMES.split())
_PRUNE = frozenset({"label", "label!", "until"})
_STATES = ("created", "running", "paused", "restarting", "removing", "exited", "dead")
_HEALTH = ("none", "starting", "healthy", "unhealthy")
_INT64 = 1 << 63


def check_names(filters: Filters, known: frozenset[str]) -> None:
    for name in filters:
        if name not in known:
            raise InvalidParameter(f"invalid filter '{name}'")


def compile_list(
    registry: Registry, images: ImageService, names: Mapping[str, Sequence[str]], filters: Filters
) -> list[Test]:
    """The tests that an entry must pass.

    *names* gives containers their additional names. Raises ``InvalidParameter`` and ``NotFound``.
    """
    check_names(filters, _LIST)
    makers: dict[str, Callable[[Sequence[str]], Test]] = {
        "status": _status,
        "health": _health,
        "exited": _exited,
        "is-task": _is_task,
        "isolation": lambda values: lambda entry: True,
        "label": _labels,
        "before": lambda values: _before(registry, values),
        "since": lambda values: _since(registry, values),
        "volume": _volume,
        "network": _network,
        "publish": lambda values: _ports("publish", values, _published),
        "expose": lambda values: _ports("expose", values, _exposed),
        "ancestor": lambda values: _ancestor(images, values),
    }
    tests = [makers[name](values) for name, values in filters.items() if values and name in makers]
    if filters.get("name") or filters.get("id"):
        tests.append(_named(registry, names, filters.get("name", ()), filters.get("id", ())))
    return tests


def compile_prune(filters: Filters, now: float) -> list[Test]:
    """*now* is Unix seconds."""
    check_names(filters, _PRUNE)
    tests = []
    if labels := filters.get("label"):
        tests.append(_labels(labels))
    for value in filters.get("label!", ()):
        tests.append(_without_label(value))
    limits = [parse_until(value, now) for value in filters.get("until", ())]
    if len(limits) > 1:
        raise InvalidParameter("more than one until filter specified")
    for limit in limits:
        tests.append(_created_before(int(limit * 1e9)))
    return tests


def _created_before(limit: int) -> Test:
    return lambda entry: entry.definition.created_at < limit


def _without_label(value: str) -> Test:
    return lambda entry: not has_label(entry.definition.config.labels or {}, value)


def _status(values: Sequence[str]) -> Test:
    for value in values:
        if value not in _STATES:
            raise InvalidParameter(
                f"invalid filter 'status={value}': invalid value for state ({value}): "
                f"must be one of {', '.join(_STATES)}"
            )
    return lambda entry: entry.state.status in values


def _health(values: Sequence[str]) -> Test:
    for value in values:
        if value not in _HEALTH:
            raise InvalidParameter(
                f"invalid filter 'health={value}': invalid value for health ({value}): "
                f"must be one of {', '.join(_HEALTH)}"
            )
    return lambda entry: (entry.state.health.status if entry.state.health else "none") in values


def _exited(values: Sequence[str]) -> Test:
    codes = {_integer("exited", value) for value in values}
    return lambda entry: (
        entry.state.exit_code in codes and entry.state.status not in ACTIVE and bool(entry.state.finished_at)
    )


def _integer(name: str, value: str) -> int:
    problem = "invalid syntax"
    if re.fullmatch(r"[+-]?\d+", value, re.ASCII):
        if -_INT64 <= int(value) < _INT64:
            return int(value)
        problem = "value out of range"
    raise InvalidParameter(
        f"invalid filter '{name}={value}': strconv.Atoi: parsing {go_quote(value)}: {problem}"
    )


def _is_task(values: Sequence[str]) -> Test:
    """No container here is a task of a cluster."""
    try:
        wanted = {parse_bool(value) for value in values}
    except ValueError:
        raise InvalidParameter(f"invalid filter 'is-task=[{' '.join(values)}]'") from None
    return lambda entry: False in wanted


def _labels(values: Sequence[str]) -> Test:
    return lambda entry: all(has_label(entry.definition.config.labels or {}, value) for value in values)


def has_label(labels: Mapping[str, str], wanted: str) -> bool:
    """``key`` or ``key=value``."""
    key, equals, value = wanted.partition("=")
    return key in labels and (not equals or labels[key] == value)


def _before(registry: Registry, values: Sequence[str]) -> Test:
    limit = [_named_container(registry, value).definition.created_at for value in values][-1]
    return lambda entry: entry.definition.created_at < limit


def _since(registry: Registry, values: Sequence[str]) -> Test:
    limit = [_named_container(registry, value).definition.created_at for value in values][-1]
    return lambda entry: entry.definition.created_at > limit


def _named_container(registry: Registry, value: str) -> Entry:
    """By its name or its whole id: dockerd takes no part of an id here."""
    try:
        entry = registry.get(value)
    except InvalidParameter:
        raise NotFound(f"No such container: {value}") from None
    if entry.id.startswith(value) and value not in (entry.id, entry.definition.name):
        raise NotFound(f"No such container: {value}")
    return entry


def _volume(values: Sequence[str]) -> Test:
    def uses(entry: Entry) -> bool:
        for mount in entry.definition.mounts:
            name = mount.name if mount.kind is MountKind.VOLUME else mount.source
            if mount.destination in values or name in values:
                return True
        return False

    return uses


def _network(values: Sequence[str]) -> Test:
    def connected(entry: Entry) -> bool:
        return any(
            name in values or any(settings.network_id.startswith(value) for value in values)
            for name, settings in networks(entry).items()
        )

    return connected


def _ancestor(images: ImageService, values: Sequence[str]) -> Test:
    wanted: set[str] = set()
    for value in values:
        wanted |= images.ancestors(value)
    return lambda entry: entry.definition.image_id in wanted


def _ports(name: str, values: Sequence[str], of: Callable[[Entry], set[str]]) -> Test:
    wanted = {port for value in values for port in _port_range(name, value)}
    return lambda entry: not wanted.isdisjoint(of(entry))


def _port_range(name: str, value: str) -> list[str]:
    """``80``, ``80-90``, ``53/udp``: every port as ``number/protocol``.

    Whatever is behind the slash is a protocol.
    """
    if ":" in value:
        raise InvalidParameter(f"filter for '{name}' should not contain ':': {value}")
    ports, _, protocol = value.partition("/")
    start, dash, end = ports.partition("-")
    try:
        if not value:
            raise ValueError("invalid port range: value is empty")
        first = _port("start", start)
        last = _port("end", end) if dash and end != start else first
        if last < first:
            raise ValueError(f"invalid port range: {value}")
    except ValueError as error:
        raise InvalidParameter(f"error while looking up for {name} {value}: {error}") from None
    return [f"{number}/{protocol.lower() or 'tcp'}" for number in range(first, last + 1)]


def _port(which: str, text: str) -> int:
    problem = "invalid syntax" if text else "value is empty"
    if text.isascii() and text.isdigit():
        if int(text) <= 65535:
            return int(text)
        problem = "value out of range"
    raise ValueError(f"invalid {which} port '{text}': {problem}")


def _published(entry: Entry) -> set[str]:
    """Ports of the host: as they are, else as they were asked for."""
    ports = entry.state.ports or entry.definition.host_config.port_bindings or {}
    return {
        f"{binding.host_port}/{port.rpartition('/')[2]}"
        for port, bindings in ports.items()
        for binding in bindings or []
    }


def _exposed(entry: Entry) -> set[str]:
    exposed = entry.definition.config.exposed_ports
    return set(exposed) if isinstance(exposed, dict) else set()


def _named(
    registry: Registry, more: Mapping[str, Sequence[str]], patterns: Sequence[str], prefixes: Sequence[str]
) -> Test:
    """Names by regular expression, with and without the slash; ids by unambiguous prefix."""
    compiled = [_pattern(pattern) for pattern in patterns]

    def matches(entry: Entry) -> bool:
        if prefixes and not any(_is_prefix(registry, prefix, entry) for prefix in prefixes):
            return False
        if not compiled:
            return True
        own = ["/" + entry.definition.name, *more.get(entry.id, ())]
        return any(test(name) or test(name.removeprefix("/")) for test in compiled for name in own)

    return matches


def _is_prefix(registry: Registry, prefix: str, entry: Entry) -> bool:
    return entry.id.startswith(prefix) and registry.is_unambiguous(prefix)


def _pattern(pattern: str) -> Callable[[str], bool]:
    try:
        search = re.compile(pattern).search
    except re.error:
        return lambda name: name == pattern
    return lambda name: search(name) is not None


_DURATION = re.compile(r"[-+]?(?:(?:\d+(?:\.\d*)?|\.\d+)(?:ns|us|µs|ms|s|m|h))+")
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DATE = re.compile(r"\d{4}-\d\d-\d\d(T\d\d(:\d\d(:\d\d(\.\d+)?)?)?(Z|[+-]\d\d:\d\d)?)?\Z", re.ASCII)


def parse_until(text: str, now: float) -> float:
    """Unix seconds of a time, or of a Go duration before *now*; raises ``InvalidParameter``."""
    if _DURATION.fullmatch(text):
        seconds = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
        return now + seconds if text.startswith("-") else now - seconds
    if re.fullmatch(r"-?\d+(\.\d{1,9})?", text, re.ASCII):
        return float(text)
    if not _DATE.match(text):
        raise InvalidParameter(
            f"failed to parse value as time or duration: invalid seconds {go_quote(text)}: invalid syntax"
        )
    return _date(text)


def _date(text: str) -> float:
    hours = re.sub(r"(T\d\d)(?=Z|[+-]|\Z)", r"\1:00", text)
    try:
        moment = dt.datetime.fromisoformat(hours)
    except ValueError as error:
        raise InvalidParameter(f"failed to parse value as time or duration: {go_quote(text)}") from error
    return moment.timestamp()
