"""What a container takes over from its image (moby ``runconfig.merge`` and ``mergeAndVerifyConfig``)."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import UNSET

from services.protocol.api.containers import Config, HealthConfig
from services.protocol.errors import InvalidParameter


def merge_image_config(config: Config, image: Config | None) -> None:
    """Fill in *config* from *image*; raises ``InvalidParameter`` when there is nothing to execute."""
    if image is not None:
        config.user = config.user or image.user
        config.working_dir = config.working_dir or image.working_dir
        if config.stop_signal is UNSET or not config.stop_signal:
            config.stop_signal = image.stop_signal
        config.env = merge_env(config.env, image.env)
        config.labels = {**(image.labels or {}), **(config.labels or {})}
        _merge_command(config, image)
        _merge_ports(config, image)
        _merge_health(config, image)
        config.volumes = {**(config.volumes or {}), **(image.volumes or {})} or None
        if image.shell is not UNSET and config.shell is UNSET:
            config.shell = list(image.shell)
    if config.labels is None:
        config.labels = {}
    if config.entrypoint == [""] or not config.entrypoint:
        config.entrypoint = None
    if not config.entrypoint and not config.cmd:
        raise InvalidParameter("no command specified")


def merge_env(own: Sequence[str] | None, image: Sequence[str] | None) -> list[str] | None:
    """The image's variables after the container's, without those that it sets itself."""
    if not own:
        return None if image is None else list(image)
    names = {entry.partition("=")[0] for entry in own}
    return [*own, *(entry for entry in image or [] if entry.partition("=")[0] not in names)]


def _merge_command(config: Config, image: Config) -> None:
    """An entrypoint of the container's own makes the image's command meaningless."""
    if config.entrypoint:
        return
    if not config.cmd:
        config.cmd = None if image.cmd is None else list(image.cmd)
        config.args_escaped = image.args_escaped
    if config.entrypoint is None:
        config.entrypoint = None if image.entrypoint is None else list(image.entrypoint)


def _merge_ports(config: Config, image: Config) -> None:
    if image.exposed_ports is UNSET or not image.exposed_ports:
        return
    own = {} if config.exposed_ports is UNSET else config.exposed_ports
    config.exposed_ports = {**image.exposed_ports, **own}


def _merge_health(config: Config, image: Config) -> None:
    if image.healthcheck is UNSET:
        return
    if config.healthcheck is UNSET:
        config.healthcheck = image.healthcheck
        return
    for field in HealthConfig.__struct_fields__:
        if getattr(config.healthcheck, field) in (UNSET, 0, []):
            setattr(config.healthcheck, field, getattr(image.healthcheck, field))


def command_line(config: Config) -> tuple[str, list[str]]:
    """(path, arguments) of entrypoint and command."""
    words = [*(config.entrypoint or []), *(config.cmd or [])]
    return words[0], words[1:]
