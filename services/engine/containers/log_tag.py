"""The log option ``tag``: a template over what dockerd tells a log driver (docs: logging/log_tags).

The names are those of moby's ``daemon/logger/loginfo.go``.
"""

from __future__ import annotations

import datetime
import socket
from collections.abc import Callable

from services.engine.containers.gotemplate.evaluate import expand
from services.engine.containers.gotemplate.functions import Function
from services.engine.containers.gotemplate.values import Struct, Value
from services.engine.containers.model import Container
from services.protocol.errors import InvalidParameter, Unimplemented

_NANOSECONDS = 1_000_000_000
_FAILED = "failed to initialize logging driver"


def expand_tag(
    template: str, definition: Container, log_path: str, options: dict[str, str], extra: dict[str, str]
) -> str:
    """*template* for a container whose log has *options*; *extra* are the labels and variables they name.

    Raises ``InvalidParameter`` with dockerd's text, and ``Unimplemented`` for what the templates lack.
    """
    try:
        return expand("log-tag", template, _info(definition, log_path, options, extra))
    except ValueError as error:
        raise InvalidParameter(f"{_FAILED}: {error}") from None
    except Unimplemented as error:
        raise Unimplemented(f"{_FAILED}: the log option tag: {error}") from None


def _info(definition: Container, log_path: str, options: dict[str, str], extra: dict[str, str]) -> Struct:
    image = definition.config.image
    fields: dict[str, Value] = {
        "Config": options,
        "ContainerID": definition.id,
        "ContainerName": "/" + definition.name,
        "ContainerEntrypoint": definition.path,
        "ContainerArgs": definition.args,
        "ContainerImageID": definition.image_id,
        "ContainerImageName": image,
        "ContainerCreated": _time(definition.created_at),
        "ContainerEnv": definition.config.env or [],
        "ContainerLabels": definition.config.labels or {},
        "LogPath": log_path,
        "DaemonName": "docker",
    }
    methods = {
        "ID": definition.id[:12],
        "FullID": definition.id,
        "Name": definition.name,
        "ImageID": definition.image_id[:12],  # with its "sha256:", as dockerd cuts it
        "ImageFullID": definition.image_id,
        "ImageName": image,
        "Command": " ".join([definition.path, *definition.args]),
        "Hostname": socket.gethostname(),
    }
    functions = {name: Function(_always(value)) for name, value in methods.items()}
    functions["ExtraAttributes"] = Function(lambda _: extra, ("func(string) string",))
    return Struct("logger.Info", fields, functions, pointer=True)


def _always(value: str) -> Callable[[], str]:
    return lambda: value


def _time(nanoseconds: int) -> Struct:
    """A ``time.Time`` in UTC: printed by its ``String``, encoded as RFC 3339."""
    seconds, rest = divmod(nanoseconds, _NANOSECONDS)
    when = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    fraction = f".{rest:09}".rstrip("0").rstrip(".")
    return Struct(
        "time.Time",
        printed=f"{when:%Y-%m-%d %H:%M:%S}{fraction} +0000 UTC",
        encoded=f'"{when:%Y-%m-%dT%H:%M:%S}{fraction}Z"',
    )
