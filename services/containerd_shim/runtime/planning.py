"""From an OCI document to the plans of a child process: all that can be computed before the fork."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from services.containerd_shim.runtime import (
    devices,
    failures,
    idmap,
    init,
    layers,
    mounts,
    process,
    rootfs,
    sysctls,
)
from services.containerd_shim.runtime import namespaces as ns
from services.containerd_shim.runtime import syscall as sc
from services.containerd_shim.runtime.cgroups.base import CgroupManager
from services.containerd_shim.runtime.mounts import PROPAGATION
from services.containerd_shim.runtime.process import ProcessPlan, Stdio
from services.containerd_shim.runtime.user import UserRef
from services.protocol import oci
from services.protocol.errors import Conflict, InvalidParameter, NotFound, Unimplemented

if TYPE_CHECKING:
    from services.containerd_shim.runtime.container import Container
    from services.protocol import task_pb2 as pb

OCI_VERSION = "1.2.0"
_NS_LINKS = {
    "user": sc.CLONE_NEWUSER,
    "mnt": sc.CLONE_NEWNS,
    "pid": sc.CLONE_NEWPID,
    "net": sc.CLONE_NEWNET,
    "uts": sc.CLONE_NEWUTS,
    "ipc": sc.CLONE_NEWIPC,
    "cgroup": sc.CLONE_NEWCGROUP,
}


def oci_state(container: Container, status: str, pid: int) -> oci.State:
    return oci.State(
        oci_version=OCI_VERSION,
        id=container.id,
        status=status,
        pid=pid,
        bundle=str(container.bundle),
        annotations=container.spec.annotations,
    )


def init_plan(
    container: Container,
    cgroup: CgroupManager,
    stdio: Stdio | None,
    layer_mounts: Sequence[pb.Mount],
    user: UserRef | None,
    size: tuple[int, int] | None,
) -> init.InitPlan:
    """Raises InvalidParameter or Unimplemented for what cannot be run; opens namespaces to join."""
    spec = container.spec
    linux = spec.linux or oci.Linux()
    if spec.process is None:
        raise InvalidParameter("process property must not be empty")
    if linux.intel_rdt:
        raise Unimplemented("linux.intelRdt is not implemented")
    if linux.mount_label:
        raise Unimplemented("linux.mountLabel is not implemented")
    for place, rule in enumerate(linux.resources.devices if linux.resources else ()):
        if not rule.access:
            raise failures.invalid(f"device access at {place} field cannot be empty")
    process_plan = process.plan(spec.process, linux, stdio, user, size, container.id)
    root = _root_plan(container, cgroup, linux, layer_mounts)
    namespaces = ns.plan(linux.namespaces)
    try:
        _check_namespaces(namespaces, linux)
        sysctls.check(linux.sysctl, namespaces.kinds)
    except BaseException:
        namespaces.close()
        raise
    root.user_namespace = bool(namespaces.kinds & sc.CLONE_NEWUSER)
    return init.InitPlan(
        process=process_plan,
        root=root,
        namespaces=namespaces,
        cgroup_files=cgroup.join_files(),
        hostname=spec.hostname,
        domainname=spec.domainname,
        sysctls=linux.sysctl,
        hooks=spec.hooks,
        state=oci_state(container, "created", 0),
        oom_score_adj=spec.process.oom_score_adj,
    )


def _root_plan(
    container: Container, cgroup: CgroupManager, linux: oci.Linux, layer_mounts: Sequence[pb.Mount]
) -> rootfs.RootPlan:
    spec = container.spec
    if spec.root is None or spec.process is None:
        raise InvalidParameter("root property must not be empty")
    if linux.rootfs_propagation and linux.rootfs_propagation not in PROPAGATION:
        raise InvalidParameter(f"rootfsPropagation={linux.rootfs_propagation} is not supported")
    planned = [mounts.parse(mount) for mount in spec.mounts]
    return rootfs.RootPlan(
        path=os.path.abspath(os.path.join(container.bundle, spec.root.path)),
        bundle=str(container.bundle),
        readonly=spec.root.readonly,
        propagation=linux.rootfs_propagation,
        layers=[layers.plan(m.type, m.source, m.target, m.options) for m in layer_mounts],
        mounts=planned,
        wholes={at: layers.whole(mount) for at, mount in enumerate(planned) if mount.subdir},
        devices=devices.with_defaults(linux.devices),
        masked=linux.masked_paths,
        readonly_paths=linux.readonly_paths,
        cgroup_directories=cgroup.mounts(),
        cgroup_version=cgroup.version,
        user_namespace=False,
        cwd=spec.process.cwd,
    )


def _check_namespaces(namespaces: ns.NamespacePlan, linux: oci.Linux) -> None:
    if not namespaces.new & sc.CLONE_NEWNS:
        raise Unimplemented("a container without a mount namespace of its own is not implemented")
    if namespaces.new & sc.CLONE_NEWUSER:
        idmap.check(linux.uid_mappings, linux.gid_mappings)
    elif linux.uid_mappings or linux.gid_mappings:
        raise InvalidParameter("user namespace mappings specified, but user namespace isn't enabled")


def stdio_descriptors(plan: ProcessPlan) -> list[int]:
    """What the child keeps open for its program."""
    extra = list(range(3, 3 + plan.preserve_fds))
    if plan.stdio is None or plan.process.terminal:
        return extra
    return [plan.stdio.stdin, plan.stdio.stdout, plan.stdio.stderr, *extra]


def kept_descriptors(plan: init.InitPlan) -> list[int]:
    gate = [] if plan.gate is None else [plan.gate.fileno()]
    all_layers = (*plan.root.layers, *plan.root.wholes.values())
    served = [layer.made for layer in all_layers if layer.made >= 0]
    return [fd for _flag, fd in plan.namespaces.joins] + stdio_descriptors(plan.process) + gate + served


def exec_plan(
    container: Container,
    cgroup: CgroupManager,
    process_document: oci.Process,
    stdio: Stdio | None,
    user: UserRef | None,
    size: tuple[int, int] | None,
    *,
    ignore_paused: bool,
) -> init.ExecPlan:
    """Raises NotFound when the container does not run; opens a pidfd of its init."""
    linux = container.spec.linux or oci.Linux()
    plan = process.plan(process_document, linux, stdio, user, size, container.id)
    if not container.alive():
        raise NotFound(f"cannot exec in a stopped container: {container.id}")
    if not ignore_paused and cgroup.frozen():
        # The process would freeze as it joins, and its parent wait for it.
        raise Conflict("cannot exec in a paused container")
    try:
        init_fd = os.pidfd_open(container.pid)
    except ProcessLookupError:
        raise NotFound(f"cannot exec in a stopped container: {container.id}") from None
    try:
        flags = _differing_namespaces(container.pid)
        default_score = container.spec.process.oom_score_adj if container.spec.process else None
    except BaseException:
        os.close(init_fd)
        raise
    score = process_document.oom_score_adj
    return init.ExecPlan(
        process=plan,
        init_fd=init_fd,
        setns_flags=flags,
        cgroup_files=cgroup.join_files(),
        oom_score_adj=default_score if score is None else score,
    )


def _differing_namespaces(pid: int) -> int:
    """The namespaces of *pid* that are not this process's."""
    flags = 0
    for name, flag in _NS_LINKS.items():
        try:
            theirs = os.stat(f"/proc/{pid}/ns/{name}").st_ino
        except FileNotFoundError:
            raise NotFound("cannot exec in a stopped container") from None
        if theirs != os.stat(f"/proc/self/ns/{name}").st_ino:
            flags |= flag
    return flags


def pid_namespace_of(plan: init.ExecPlan) -> ns.NamespacePlan:
    """The part of an exec's namespaces that its parent has to enter before the fork."""
    if not plan.setns_flags & sc.CLONE_NEWPID:
        return ns.NamespacePlan()
    return ns.NamespacePlan(joins=[(sc.CLONE_NEWPID, plan.init_fd)])
