"""Namespaces of a container: made new, joined by path, or shared with the host when not named."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from services.containerd_shim.runtime import syscall
from services.protocol import oci
from services.protocol.errors import InvalidParameter, NotFound, Unimplemented

FLAGS = {
    "user": syscall.CLONE_NEWUSER,
    "mount": syscall.CLONE_NEWNS,
    "pid": syscall.CLONE_NEWPID,
    "network": syscall.CLONE_NEWNET,
    "uts": syscall.CLONE_NEWUTS,
    "ipc": syscall.CLONE_NEWIPC,
    "cgroup": syscall.CLONE_NEWCGROUP,
}
#: Order of joining: the user namespace first, for its capabilities cover the others.
_ORDER = tuple(FLAGS)


@dataclass
class NamespacePlan:
    """``new`` is a set of CLONE_NEW* bits; ``joins`` are (bit, descriptor), in joining order."""

    new: int = 0
    joins: list[tuple[int, int]] = field(default_factory=list)

    @property
    def kinds(self) -> int:
        """Every namespace that differs from the host's."""
        return self.new | sum(flag for flag, _fd in self.joins)

    def close(self) -> None:
        for _flag, fd in self.joins:
            os.close(fd)
        self.joins.clear()


def plan(namespaces: list[oci.Namespace]) -> NamespacePlan:
    """Opens the paths to join; :meth:`NamespacePlan.close` releases them."""
    result = NamespacePlan()
    seen: set[str] = set()
    for namespace in namespaces:
        if namespace.type == "time":
            raise Unimplemented("time namespaces are not implemented")
        if namespace.type not in FLAGS:
            raise InvalidParameter(f"unknown namespace type {namespace.type!r}")
        if namespace.type in seen:
            raise InvalidParameter(f"malformed spec file: duplicated ns {namespace.type!r}")
        seen.add(namespace.type)
    try:
        for namespace in sorted(namespaces, key=lambda entry: _ORDER.index(entry.type)):
            flag = FLAGS[namespace.type]
            if namespace.path:
                result.joins.append((flag, _open(namespace)))
            else:
                result.new |= flag
    except BaseException:
        result.close()
        raise
    return result


def _open(namespace: oci.Namespace) -> int:
    try:
        return os.open(namespace.path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise NotFound(
            f"lstat {namespace.path}: {(error.strerror or str(error)).lower()} "
            f"(joining {namespace.type} namespace)"
        ) from error
