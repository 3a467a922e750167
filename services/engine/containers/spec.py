"""The OCI document of a container (``config.json``), from its definition and its prepared mounts."""

from __future__ import annotations

from services.engine.containers.model import Entry
from services.engine.containers.services import Services
from services.protocol import oci
from services.protocol.errors import Unimplemented


def build_spec(services: Services, entry: Entry, *, mounts: list[oci.Mount]) -> oci.Spec:
    """*mounts* are those of :func:`services.engine.containers.mounts.prepare_mounts`.

    ``linux.seccomp`` is ``Seccomp(default_action="default")`` for the runtime's own profile, None
    for unconfined. Raises ``InvalidParameter``/``SystemError_`` with Docker's text.
    """
    raise Unimplemented("the OCI specification of a container")
