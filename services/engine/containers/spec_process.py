"""The process of a container's OCI document: arguments, environment, capabilities, limits."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Sequence
from pathlib import Path

from msgspec import UNSET

from services.engine.containers import capabilities
from services.engine.containers.model import Container
from services.engine.containers.security import SecurityOptions
from services.protocol import oci
from services.protocol.api.containers import Ulimit
from services.protocol.errors import SystemError_
from services.protocol.settings import Settings

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: Where the init of ``--init`` is seen inside the container.
INIT_DESTINATION = "/sbin/docker-init"
#: Programs that can be it, in order: Docker's own name, then the one Debian's tini installs.
_INITS = ("docker-init", "tini-static")
#: Where packages put Docker's own, which is no command of users (moby ``LookupInitPath``).
_INTERNAL = "/usr/local/libexec/docker:/usr/libexec/docker:/usr/local/lib/docker:/usr/lib/docker"
_UNLIMITED = (1 << 64) - 1


def build_process(settings: Settings, definition: Container, options: SecurityOptions) -> oci.Process:
    """The init process; its user is resolved by the runtime inside the container's root."""
    config, host = definition.config, definition.host_config
    args = [definition.path, *definition.args]
    if wants_init(settings, definition):
        args = [INIT_DESTINATION, "--", *args]
    return oci.Process(
        terminal=config.tty,
        console_size=_console_size(host.console_size),
        args=args,
        env=environment(definition, tty=config.tty),
        cwd=config.working_dir or "/",
        capabilities=capability_sets(host.cap_add, host.cap_drop, privileged=host.privileged),
        rlimits=rlimits(settings, host.ulimits),
        no_new_privileges=options.no_new_privileges,
        apparmor_profile=apparmor_profile(options, privileged=host.privileged),
        oom_score_adj=host.oom_score_adj,
        selinux_label=definition.process_label,
    )


def _console_size(size: list[int] | None) -> oci.Box | None:
    if not size or len(size) != 2 or not any(size):
        return None
    return oci.Box(height=size[0], width=size[1])


def environment(definition: Container, *, tty: bool) -> list[str]:
    """Docker's own variables, replaced or removed (an entry without ``=``) by the configuration's."""
    base = [f"PATH={DEFAULT_PATH}", f"HOSTNAME={definition.config.hostname}"]
    if tty:
        base.append("TERM=xterm")
    return merge_environment(base, definition.config.env or [])


def merge_environment(base: Sequence[str], overrides: Sequence[str]) -> list[str]:
    """*overrides* over *base* by name: in the place of what they replace, else in the place of their last.

    One without a value takes away what is in *base*, and only that.
    """
    values: dict[str, str | None] = {entry.partition("=")[0]: entry for entry in base}
    defaults = frozenset(values)
    for entry in overrides:
        name, equals, _ = entry.partition("=")
        if name in defaults:
            values[name] = entry if equals else None
        elif equals:
            values.pop(name, None)
            values[name] = entry
    return [entry for entry in values.values() if entry is not None]


def capability_sets(
    add: Sequence[str] | None, drop: Sequence[str] | None, *, privileged: bool
) -> oci.Capabilities:
    """The runtime takes away what execve(2) takes from a user who is not root."""
    names = capabilities.resolve(add or [], drop or [], privileged=privileged)
    return oci.Capabilities(bounding=names, effective=names, permitted=names)


def rlimits(settings: Settings, ulimits: Sequence[Ulimit] | None) -> list[oci.Rlimit]:
    """The container's limits and, for what it does not name, the daemon's."""
    named = {limit.name: limit for limit in settings.default_ulimits}
    named.update({limit.name: limit for limit in ulimits or []})
    return [
        oci.Rlimit(
            type="RLIMIT_" + limit.name.upper(),
            soft=_UNLIMITED if limit.soft < 0 else limit.soft,
            hard=_UNLIMITED if limit.hard < 0 else limit.hard,
        )
        for limit in named.values()
    ]


def apparmor_profile(options: SecurityOptions, *, privileged: bool) -> str:
    """The profile that was asked for; none by default (the host's profile is not loaded by us).

    On a host without AppArmor it means nothing, as in Docker.
    """
    if not _apparmor_enabled():
        return ""
    return options.apparmor or ("unconfined" if privileged else "")


@functools.cache
def _apparmor_enabled() -> bool:
    try:
        return Path("/sys/module/apparmor/parameters/enabled").read_text().startswith("Y")
    except OSError:
        return False


def wants_init(settings: Settings, definition: Container) -> bool:
    """``--init``, meaningless in a pid namespace that has an init already."""
    host = definition.host_config
    if host.pid_mode:
        return False
    return settings.init if host.init is UNSET else bool(host.init)


def init_mount() -> oci.Mount:
    """The init program, from the host; raises ``SystemError_`` when none is installed."""
    for name in _INITS:
        if (path := shutil.which(name, path=_INTERNAL) or shutil.which(name)) is not None:
            return oci.Mount(
                destination=INIT_DESTINATION, type="bind", source=path, options=["bind", "ro", "rprivate"]
            )
    raise SystemError_(f'exec: "{_INITS[0]}": executable file not found in $PATH (Debian: tini)')
