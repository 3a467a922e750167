"""The OCI process of an exec."""

from __future__ import annotations

from services.engine.containers import security
from services.engine.containers.model import Entry, Exec
from services.engine.containers.services import Services
from services.engine.containers.spec_process import (
    apparmor_profile,
    capability_sets,
    environment,
    merge_environment,
    rlimits,
)
from services.protocol import oci
from services.protocol import task_pb2 as pb


def build_process(services: Services, entry: Entry, exec_: Exec) -> tuple[oci.Process, pb.UserRef]:
    """The process and who it runs as (resolved by the runtime inside the container's root).

    It has the container's environment, limits and security; ``privileged`` gives it every capability.
    """
    definition = entry.definition
    host = definition.host_config
    options = security.parse(host.security_opt, no_new_privileges=services.settings.no_new_privileges)
    privileged = host.privileged or exec_.privileged
    size = exec_.console_size
    process = oci.Process(
        terminal=exec_.tty,
        console_size=oci.Box(height=size[0], width=size[1]) if size else None,
        args=[exec_.path, *exec_.args],
        env=merge_environment(environment(definition, tty=exec_.tty), exec_.env),
        cwd=exec_.working_dir or definition.config.working_dir or "/",
        capabilities=capability_sets(host.cap_add, host.cap_drop, privileged=privileged),
        rlimits=rlimits(services.settings, host.ulimits),
        no_new_privileges=options.no_new_privileges,
        apparmor_profile=apparmor_profile(options, privileged=privileged),
        oom_score_adj=host.oom_score_adj,
        selinux_label=definition.process_label,
    )
    return process, exec_user_ref(entry, exec_)


def exec_user_ref(entry: Entry, exec_: Exec) -> pb.UserRef:
    """Who an exec runs as: its own user, or the container's."""
    definition = entry.definition
    return pb.UserRef(
        user=exec_.user or definition.config.user,
        additional_groups=definition.host_config.group_add or [],
    )


def user_ref(entry: Entry) -> pb.UserRef:
    """Who the container's init runs as."""
    return pb.UserRef(
        user=entry.definition.config.user, additional_groups=entry.definition.host_config.group_add or []
    )
