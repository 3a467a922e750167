"""The shim of a container, forked before its task exists: what it is told of streams and log."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

from services.engine.containers.log_tag import expand_tag
from services.engine.containers.model import Entry
from services.engine.containers.services import Services
from services.engine.containers.values import regexp_problem
from services.protocol import task_pb2 as pb
from services.protocol.errors import Conflict, InvalidParameter, NotFound, Unimplemented

#: Log drivers whose records can be read back (``docker logs``).
READABLE = frozenset({"json-file", "local"})


def start_shim_request(services: Services, entry: Entry) -> pb.StartShimRequest:
    config = entry.definition.config
    return pb.StartShimRequest(
        id=entry.id,
        terminal=config.tty,
        open_stdin=config.open_stdin,
        stdin_once=config.stdin_once,
        log=log_config(services, entry),
    )


async def ensure_shim(services: Services, entry: Entry) -> None:
    """Fork the shim unless it is there; it ends with ``Shims.delete``."""
    if entry.runtime.log_failure is not None:
        raise entry.runtime.log_failure
    request = start_shim_request(services, entry)
    if request.log.path:
        Path(request.log.path).parent.mkdir(mode=0o700, exist_ok=True)
    await _start_shim(services, request)


async def _start_shim(services: Services, request: pb.StartShimRequest) -> None:
    """Under the container's lock, and without a task: a shim that has died is in the way, and of no use."""
    try:
        await services.shims.start_shim(request)
    except Conflict:
        with contextlib.suppress(NotFound):
            await services.shims.delete(request.id)
        await services.shims.start_shim(request)


async def ensure_streams(services: Services, entry: Entry) -> None:
    """As :func:`ensure_shim`, for an attach: a log that cannot be written fails the start, not this.

    dockerd opens the log when it starts the container; a client attaches before.
    """
    try:
        await ensure_shim(services, entry)
    except (InvalidParameter, Unimplemented) as error:
        request = pb.StartShimRequest(
            id=entry.id,
            terminal=entry.definition.config.tty,
            open_stdin=entry.definition.config.open_stdin,
            log=pb.LogConfig(driver="none"),
        )
        await _start_shim(services, request)
        entry.runtime.log_failure = error


def log_driver(services: Services, entry: Entry) -> str:
    config = entry.definition.host_config.log_config
    return config.type_ if config is not None and config.type_ else services.settings.log_driver


def log_options(services: Services, entry: Entry) -> dict[str, str]:
    config = entry.definition.host_config.log_config
    if config is None or not config.type_:
        return dict(services.settings.log_opts)
    return dict(config.config or {})


def log_path(services: Services, entry: Entry) -> Path:
    """The file the driver writes; Docker's paths (``local`` shows none in inspect)."""
    if entry.definition.log_path:
        return Path(entry.definition.log_path)
    return services.container_dir(entry.id) / "local-logs" / "container.log"


def log_config(services: Services, entry: Entry) -> pb.LogConfig:
    driver, options = log_driver(services, entry), log_options(services, entry)
    path = str(log_path(services, entry)) if driver in READABLE else ""
    return pb.LogConfig(
        driver=driver, path=path, options=options, attributes=_attributes(entry, options, path)
    )


def _attributes(entry: Entry, options: dict[str, str], path: str) -> dict[str, str]:
    """The labels, environment and tag that the log options ask for in every record."""
    labels = entry.definition.config.labels or {}
    environment = dict(item.partition("=")[::2] for item in entry.definition.config.env or [])
    found = _select(labels, options.get("labels", ""), options.get("labels-regex", ""))
    found |= _select(environment, options.get("env", ""), options.get("env-regex", ""))
    if tag := expand_tag(options.get("tag", ""), entry.definition, path, options, found):
        found["tag"] = tag
    return found


def _select(values: dict[str, str], names: str, pattern: str) -> dict[str, str]:
    found = {name: values[name] for name in names.split(",") if name in values}
    if pattern:
        try:
            expression = re.compile(pattern)
        except re.error as error:
            raise InvalidParameter(
                f"failed to initialize logging driver: {regexp_problem(pattern, error)}"
            ) from error
        found |= {name: value for name, value in values.items() if expression.search(name)}
    return found
