"""``docker update``: limits and restart policy of a container, also of a running one."""

from __future__ import annotations

import msgspec

from services.engine.containers.announce import announce
from services.engine.containers.model import Entry, Status
from services.engine.containers.services import Services
from services.engine.containers.spec_resources import build_resources
from services.engine.containers.sysinfo import sysinfo
from services.engine.containers.transitions import has_task
from services.engine.containers.validate.resources import check_early, check_resources
from services.engine.containers.validate.restart import check_policy, is_none
from services.engine.scopes import settled
from services.protocol.api.containers import HostConfig, Resources, UpdateRequest, WarningsReply
from services.protocol.errors import Conflict, Unimplemented, WharfError
from services.protocol.verbs.containers import UpdateArgs

#: Taken over when they are not zero.
_FIELDS = (
    "blkio_weight",
    "cpu_shares",
    "nano_cpus",
    "cpu_period",
    "cpu_quota",
    "cpuset_cpus",
    "cpuset_mems",
    "memory",
    "memory_swap",
    "memory_reservation",
    "cpu_realtime_period",
    "cpu_realtime_runtime",
)
#: Cannot be changed after create; Docker ignores them, which nobody would notice.
_FIXED = (
    "cgroup_parent",
    "blkio_weight_device",
    "blkio_device_read_bps",
    "blkio_device_write_bps",
    "blkio_device_read_iops",
    "blkio_device_write_iops",
    "devices",
    "device_cgroup_rules",
    "device_requests",
    "memory_swappiness",
    "oom_kill_disable",
    "ulimits",
)


async def update(services: Services, args: UpdateArgs) -> WarningsReply:
    """Raises ``InvalidParameter``, ``NotFound``, ``Conflict`` and what the runtime raises."""
    request = args.request
    _check_fixed(request)
    if request.restart_policy is not None:
        check_policy(request.restart_policy)
    info = sysinfo()
    check_early(request, info)
    warnings = check_resources(request, info, update=True)
    entry = services.registry.get(args.ref)
    async with entry.runtime.lock:
        try:
            await settled(_update(services, entry, request))
        except WharfError as error:
            raise type(error)(f"Cannot update container {entry.id}: {error}") from error
    announce(services, entry, "update")
    return WarningsReply(warnings=warnings or None)


def _check_fixed(request: UpdateRequest) -> None:
    for field in _FIXED:
        if getattr(request, field):
            raise Unimplemented(f"{field} cannot be changed by an update")


async def _update(services: Services, entry: Entry, request: UpdateRequest) -> None:
    if entry.state.status in (Status.REMOVING, Status.DEAD):
        raise Conflict("container is marked for removal and cannot be updated")
    old = entry.definition.host_config
    _check_conflicts(old, request)
    changed = _apply(old, request)
    if has_task(entry.state) and _limits(request) is not None:
        resources = build_resources(request, [])
        await services.shims.update(entry.id, msgspec.json.encode(resources))
    entry.definition.host_config = changed
    try:
        await services.registry.save_definition(entry)
    except BaseException:
        entry.definition.host_config = old
        raise


def _limits(request: UpdateRequest) -> Resources | None:
    """The request's limits; None when it changes none."""
    asked = any(getattr(request, field) for field in _FIELDS) or request.pids_limit is not None
    return request if asked else None


def _check_conflicts(old: HostConfig, request: UpdateRequest) -> None:
    """NanoCpus are a period and a quota: the two ways must not be mixed."""
    conflict = "Conflicting options: {} cannot be updated as {} has already been set"
    for asked, there, text in (
        (request.nano_cpus, old.cpu_period, ("Nano CPUs", "CPU Period")),
        (request.nano_cpus, old.cpu_quota, ("Nano CPUs", "CPU Quota")),
        (request.cpu_period, old.nano_cpus, ("CPU Period", "NanoCPUs")),
        (request.cpu_quota, old.nano_cpus, ("CPU Quota", "NanoCPUs")),
    ):
        if asked > 0 and there > 0:
            raise Conflict(conflict.format(*text))
    if request.memory and request.memory > old.memory_swap and request.memory_swap == 0:
        raise Conflict(
            "Memory limit should be smaller than already set memoryswap limit, "
            "update the memoryswap at the same time"
        )
    if old.auto_remove and not is_none(request.restart_policy):
        raise Conflict("Restart policy cannot be updated because AutoRemove is enabled for the container")


def _apply(old: HostConfig, request: UpdateRequest) -> HostConfig:
    changed = msgspec.structs.replace(old)
    for field in _FIELDS:
        if value := getattr(request, field):
            setattr(changed, field, value)
    if request.pids_limit is not None:
        changed.pids_limit = request.pids_limit
    if request.restart_policy is not None and request.restart_policy.name:
        changed.restart_policy = request.restart_policy
    return changed
