"""The OCI process of an exec."""

from __future__ import annotations

from services.engine.containers.model import Entry, Exec
from services.engine.containers.services import Services
from services.protocol import oci
from services.protocol import task_pb2 as pb
from services.protocol.errors import Unimplemented


def build_process(services: Services, entry: Entry, exec_: Exec) -> tuple[oci.Process, pb.UserRef]:
    """The process and who it runs as (resolved by the runtime inside the container's root)."""
    raise Unimplemented("the OCI process of an exec")


def user_ref(entry: Entry) -> pb.UserRef:
    """Who the container's init runs as."""
    return pb.UserRef(
        user=entry.definition.config.user, additional_groups=entry.definition.host_config.group_add or []
    )
