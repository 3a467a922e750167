"""The record of one daemon option, and the kinds of values that options have.

A kind reads one occurrence of a flag (``parse``) and the value of a daemon.json key
(``from_json``), and says how occurrences add up. Both raise ``ValueError`` with Docker's text.
"""

from __future__ import annotations

import enum
import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from services.protocol.api.containers import Ulimit
from services.protocol.settings import AddressPool


class Adds(enum.Enum):
    """What a repeated flag does."""

    REPLACES = enum.auto()
    APPENDS = enum.auto()
    MERGES = enum.auto()


@dataclass(frozen=True)
class Kind:
    """``word`` names the value in the usage text; a kind without one is a switch."""

    word: str
    parse: Callable[[str], Any]
    from_json: Callable[[Any], Any]
    adds: Adds = Adds.REPLACES


@dataclass(frozen=True)
class Option:
    """One option under all its names.

    ``field`` is the member of ``Settings``; without one the option is known by name only: any
    value but the default, or those of ``same`` (which ask for what is done anyway), is refused.
    ``key`` is the daemon.json key where it differs from the flag. ``shown`` is the default as the
    usage text has it, where it differs from the value.
    """

    flag: str
    kind: Kind
    usage: str
    default: Any
    field: str = ""
    same: tuple[Any, ...] = ()
    short: str = ""
    key: str = ""
    reloadable: bool = False
    shown: str = ""
    only_flag: bool = False

    @property
    def json_key(self) -> str:
        return "" if self.only_flag else self.key or self.flag

    @property
    def label(self) -> str:
        """The option as error texts call it."""
        return f"-{self.short}, --{self.flag}" if self.short else f"--{self.flag}"


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"cannot unmarshal {_json_type(value)} into a value of type string")
    return value


def _integer(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"cannot unmarshal {_json_type(value)} into a value of type int")
    return value


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"cannot unmarshal {_json_type(value)} into a value of type bool")
    return value


def _json_type(value: Any) -> str:
    names = {bool: "bool", int: "number", float: "number", str: "string", list: "array", dict: "object"}
    return names.get(type(value), "null")


def _parse_int(text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        raise ValueError(f'strconv.ParseInt: parsing "{text}": invalid syntax') from None


_TRUE = {"1", "t", "T", "true", "TRUE", "True"}
_FALSE = {"0", "f", "F", "false", "FALSE", "False"}


def parse_bool(text: str) -> bool:
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError(f'strconv.ParseBool: parsing "{text}": invalid syntax')


_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([kKmMgGtTpP])?(?:[iI])?[bB]?")


def parse_bytes(text: str) -> int:
    """``64m``, ``64MiB``, ``1.5g``: bytes, in powers of 1024."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f"invalid size: '{text}'")
    unit = " kmgtp".index((match[2] or " ").lower())
    return int(float(match[1]) * 1024**unit)


def _bytes_json(value: Any) -> int:
    return parse_bytes(value) if isinstance(value, str) else _integer(value)


def parse_ip(text: str) -> str:
    if not text:
        return text
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise ValueError(f"{text} is not an ip address") from None


def parse_pool(text: str) -> AddressPool:
    """``base=10.10.0.0/16,size=24``."""
    fields: dict[str, str] = {}
    for part in text.split(","):
        name, equals, value = part.partition("=")
        if not equals:
            raise ValueError(f"invalid field '{part}' must be a key=value pair")
        if name.lower() not in ("base", "size"):
            raise ValueError(f"unexpected key '{name}' in '{part}'")
        fields[name.lower()] = value
    return _pool(fields.get("base", ""), fields.get("size", "0"))


def _pool(base: str, size: Any) -> AddressPool:
    try:
        network = ipaddress.ip_network(base)
    except ValueError:
        raise ValueError(f"invalid base pool {base!r}") from None
    try:
        length = int(size)
    except ValueError:
        raise ValueError(f"invalid size value: {size}") from None
    if not network.prefixlen <= length <= network.max_prefixlen:
        raise ValueError(f"invalid default address pool: size {length} does not fit into {base}")
    return AddressPool(str(network), length)


def _pools_json(value: Any) -> list[AddressPool]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise ValueError(f"cannot unmarshal {_json_type(value)} into a list of address pools")
    return [_pool(_string(item.get("base", "")), item.get("size", 0)) for item in value]


_ULIMITS = (
    "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice",
    "nofile", "nproc", "rss", "rtprio", "rttime", "sigpending", "stack",
)  # fmt: skip


def parse_ulimit(text: str) -> Ulimit:
    """``nofile=1024:2048``; one number is both the soft and the hard limit, -1 is unlimited."""
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"invalid ulimit argument: {text}")
    if name not in _ULIMITS:
        raise ValueError(f"invalid ulimit type: {name}")
    soft, colon, hard = value.partition(":")
    try:
        limits = int(soft), int(hard if colon else soft)
    except ValueError:
        raise ValueError(f'strconv.ParseInt: parsing "{value}": invalid syntax') from None
    if limits[1] >= 0 and (limits[0] < 0 or limits[0] > limits[1]):
        raise ValueError(f"ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}")
    return Ulimit(name=name, soft=limits[0], hard=limits[1])


def _ulimits_json(value: Any) -> list[Ulimit]:
    if not isinstance(value, dict):
        raise ValueError(f"cannot unmarshal {_json_type(value)} into a map of ulimits")
    found = []
    for key, item in value.items():
        if not isinstance(item, dict):
            raise ValueError(f"cannot unmarshal {_json_type(item)} into an ulimit")
        soft, hard = _integer(item.get("Soft", 0)), _integer(item.get("Hard", 0))
        found.append(parse_ulimit(f"{item.get('Name', key)}={soft}:{hard}"))
    return found


def list_of(parse: Callable[[str], Any], word: str = "list") -> Kind:
    """A repeatable flag; a JSON array of strings."""

    def from_json(value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise ValueError(f"cannot unmarshal {_json_type(value)} into a list")
        return [parse(_string(item)) for item in value]

    return Kind(word, lambda text: [parse(text)], from_json, Adds.APPENDS)


def _pair(text: str) -> dict[str, str]:
    name, _, value = text.partition("=")
    return {name: value}


def _map_json(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"cannot unmarshal {_json_type(value)} into a map")
    return value


def _strings_json(value: Any) -> dict[str, str]:
    return {name: _string(item) for name, item in _map_json(value).items()}


def _label(text: str) -> str:
    if "=" not in text or text.startswith("="):
        raise ValueError(f"bad attribute format: {text}")
    return text


def _nested(text: str) -> dict[str, dict[str, str]]:
    """``bridge=com.docker.network.driver.mtu=1400``."""
    name, _, rest = text.partition("=")
    return {name: _pair(rest)}


def _features_json(value: Any) -> dict[str, bool]:
    return {name: _boolean(item) for name, item in _map_json(value).items()}


def _feature(text: str) -> dict[str, bool]:
    name, _, value = text.partition("=")
    return {name: parse_bool(value or "true")}


STRING = Kind("string", str, _string)
INTEGER = Kind("int", _parse_int, _integer)
SWITCH = Kind("", parse_bool, _boolean)
BYTES = Kind("bytes", parse_bytes, _bytes_json)
ADDRESS = Kind("ip", parse_ip, lambda value: parse_ip(_string(value)))
STRINGS = list_of(str)
ADDRESSES = list_of(parse_ip)
LABELS = list_of(_label)
STRING_MAP = Kind("map", _pair, _strings_json, Adds.MERGES)
FEATURES = Kind("map", _feature, _features_json, Adds.MERGES)
MAP_OF_MAPS = Kind("mapmap", _nested, _map_json, Adds.MERGES)
RUNTIMES = Kind("runtime", _pair, _map_json, Adds.MERGES)
NRI = Kind("nri-opts", _pair, _map_json, Adds.MERGES)
ULIMITS = Kind("ulimit", lambda text: [parse_ulimit(text)], _ulimits_json, Adds.APPENDS)
POOLS = Kind("pool-options", lambda text: [parse_pool(text)], _pools_json, Adds.APPENDS)
