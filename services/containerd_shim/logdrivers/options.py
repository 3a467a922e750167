"""What a user may say about a log: ``--log-driver`` and ``--log-opt``.

Texts and defaults are moby's (``daemon/logger/jsonfilelog``, ``daemon/logger/local``). Names of
options are checked by the engine when the container is created; values when its log is opened.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from services.protocol.errors import InvalidParameter, WharfError

_SIZE = re.compile(r"^(\d+(?:\.\d+)?) ?([kKmMgGtTpP])?[iI]?[bB]?$")
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_TRUE = {"1", "t", "T", "TRUE", "true", "True"}
_FALSE = {"0", "f", "F", "FALSE", "false", "False"}


@dataclass(frozen=True)
class LogOptions:
    """Sizes in bytes. ``max_size`` None: never rotated. ``buffer`` 0: the container waits for its log."""

    max_size: int | None = None
    max_files: int = 1
    compress: bool = False
    buffer: int = 0


def _bytes(text: str, base: int) -> int:
    match = _SIZE.match(text)
    if match is None:
        raise InvalidParameter(f"invalid size: '{text}'")
    return int(float(match[1]) * base ** _POWERS[(match[2] or "").lower()])


def _boolean(text: str) -> bool:
    if text not in _TRUE | _FALSE:
        raise InvalidParameter(f'strconv.ParseBool: parsing "{text}": invalid syntax')
    return text in _TRUE


def _count(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        raise InvalidParameter(f'strconv.Atoi: parsing "{text}": invalid syntax') from None
    if number < 1:
        raise InvalidParameter("max-file cannot be less than 1")
    return number


def _buffer(options: Mapping[str, str]) -> int:
    if options.get("mode") == "non-blocking":
        return _bytes(options.get("max-buffer-size", "1m"), 1024)
    return 0


def _max_size(options: Mapping[str, str], default: int | None) -> int | None:
    if "max-size" not in options:
        return default
    size = _bytes(options["max-size"], 1000)
    if size <= 0:
        raise InvalidParameter("max-size must be a positive number")
    return size


def _json_file(options: Mapping[str, str]) -> LogOptions:
    size = _max_size(options, None)
    files = _count(options.get("max-file", "1"))
    compress = _boolean(options.get("compress", "false"))
    if compress and (files == 1 or size is None):
        raise InvalidParameter("compress cannot be true when max-file is less than 2 or max-size is not set")
    return LogOptions(size, files, compress, _buffer(options))


def _local(options: Mapping[str, str]) -> LogOptions:
    size = _max_size(options, 20 * 1024 * 1024)
    files = _count(options.get("max-file", "5"))
    try:
        compress = _boolean(options.get("compress", "true"))
    except InvalidParameter as error:
        raise InvalidParameter(f"invalid boolean value for compress: {error}") from error
    return LogOptions(size, files, compress and files > 1, _buffer(options))


def parse(driver: str, options: Mapping[str, str]) -> LogOptions:
    """The options of a driver that keeps files; raises with moby's text."""
    try:
        return {"json-file": _json_file, "local": _local}[driver](options)
    except WharfError as error:
        raise InvalidParameter(f"failed to initialize logging driver: {error}") from error
    except KeyError:
        raise InvalidParameter(
            f"failed to initialize logging driver: logger: no log driver named '{driver}' is registered"
        ) from None
