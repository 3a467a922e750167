"""What the engine's packages ask of each other; the daemon wires implementations to these.

``containers`` uses all of them and is used by none but through :class:`ContainerUse`. A package
depends on this module and on nothing of its siblings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import msgspec

from reexec.archive.rootfs import MountSpec, RootSpec
from reexec.helpers.copyup import CopiedUp
from reexec.helpers.stat import Found
from reexec.helpers.tar import Tar
from reexec.helpers.untar import Untar
from services.protocol import task_pb2 as pb
from services.protocol.api.containers import Config, GraphDriverData, PortBinding
from services.protocol.api.images import ImageSummary
from services.protocol.api.networks import EndpointSettings
from services.protocol.api.volumes import Volume
from services.protocol.fdpass import Handover
from services.protocol.verbs.containers import CommitArgs


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """A resolved image. ``id`` is ``sha256:<hex>``; ``chain_id`` names its top layer ("" if none)."""

    id: str
    config: Config
    chain_id: str
    os: str
    architecture: str
    #: The reference as the user gave it, without a digest or default tag added.
    reference: str
    #: The image has a healthcheck, on-build triggers, ...: all in ``config``.
    created: str = ""


class Committed(msgspec.Struct, frozen=True, kw_only=True):
    """A new image; ``name`` is "" when it was given none."""

    id: str
    name: str


class ImageService(Protocol):
    def resolve(self, reference: str, platform: str = "") -> Image:
        """By name, tag, digest, id or id prefix.

        Raises ``NotFound`` ("No such image: name:tag") and ``InvalidParameter``.
        """

    def names(self, image_id: str) -> Sequence[str]:
        """Familiar names (``busybox:latest``) of an image, sorted."""

    def count(self) -> int:
        """Number of images, without intermediate ones."""

    async def usage(self) -> list[ImageSummary]:
        """All images with their sizes, shared sizes and numbers of containers (``system df``)."""

    def apply_changes(self, config: Config, changes: Sequence[str]) -> None:
        """Dockerfile instructions on *config*, in place. Raises ``InvalidParameter``."""

    async def commit(
        self, container_id: str, image_id: str, config: Config, args: CommitArgs, created_by: str = ""
    ) -> Committed:
        """The image of *image_id* and what the container changed, *created_by* its command.

        Raises ``InvalidParameter``.
        """

    def ancestors(self, reference: str) -> set[str]:
        """Ids of the image and of all images built from it (``ancestor`` filter); empty if unknown."""


class LayerService(Protocol):
    """Read-write layers, one per container, over an image's chain and its init layer.

    Life: ``create`` -> (``mounts`` used by the shim) * -> ``remove``; each is idempotent and safe
    to repeat after a crash. The merged file system exists only inside a mount namespace.
    """

    driver_name: str

    def driver_status(self) -> list[list[str]]:
        """Pairs for ``/info``'s DriverStatus."""

    async def total_size(self) -> int:
        """Bytes of all image layers, each counted once."""

    async def create(self, container_id: str, chain_id: str, storage_opt: Mapping[str, str]) -> None: ...

    def mounts(self, container_id: str) -> list[pb.Mount]:
        """What to mount on the container's root, in order."""

    async def remove(self, container_id: str) -> None:
        """Gone from the namespace when this returns; the bytes are freed in the background."""

    async def make_directory(self, container_id: str, path: str) -> None:
        """Make *path* and what is missing above it in the container's root, owned by root, mode 0755.

        Raises ``SystemError_`` ("Cannot mkdir: /etc/passwd is not a directory"). The container does
        not run.
        """

    async def copy_up(self, container_id: str, path: str, target: str) -> CopiedUp:
        """Copy what the container has at *path* into the empty host directory *target*."""

    async def sizes(self, container_id: str) -> tuple[int, int]:
        """Bytes (read-write layer, whole root file system)."""

    def graph_driver(self, container_id: str) -> GraphDriverData: ...

    def image_graph_driver(self, chain: str) -> GraphDriverData: ...

    def image_root(self, chain: str) -> RootSpec:
        """An image's tree, read-only."""

    def retain(self, chain: str) -> None:
        """One more user of the layers; raises ``SystemError_`` if they are not there."""

    async def free(self, chain: str) -> None:
        """One user less; with the last one the layers go."""

    def root(self, container_id: str, mounts: Sequence[MountSpec] = (), *, reading: bool = False) -> RootSpec:
        """The root file system of a stopped container, with *mounts* inside it. Only with *reading* may
        the container be started while a helper enters it."""

    async def changes(self, container_id: str) -> list[tuple[int, str]]:
        """(kind, path) of what the container changed, sorted by path; 0 modified, 1 added, 2 deleted."""

    async def path_stat(self, root: RootSpec, path: str) -> Found | None:
        """What *path* of a root is, its last part not followed; None where nothing is."""

    def tar(self, arguments: Tar) -> Handover:
        """Where to send a client's connection to have a part of a root written to it as an archive."""

    async def untar(self, arguments: Untar, fd: int) -> None:
        """Extract the archive at *fd*. Raises ``NotFound``, ``InvalidParameter`` and ``SystemError_``."""

    async def sweep(self, known: set[str]) -> None:
        """Remove read-write layers of containers that are not *known* (start-up)."""


class VolumeService(Protocol):
    async def create(
        self,
        name: str,
        driver: str,
        options: Mapping[str, str],
        labels: Mapping[str, str] | None,
        *,
        on_name: Callable[[str], None] | None = None,
    ) -> Volume:
        """The existing volume of that name, or a new one; ``name`` "" makes an anonymous one.

        *on_name* is told the name of an anonymous one before anything is made: whoever keeps it can
        remove the volume after a crash.

        Raises ``InvalidParameter`` (name, options) and ``NotFound`` (driver).
        """

    def get(self, name: str) -> Volume: ...

    async def mount(self, name: str, container_id: str, told: Mapping[str, str] | None = None) -> str:
        """Path of the volume's data on the host, held in use by *container_id* until unmount.

        There is an event if there is something to be *told* of it.
        """

    async def unmount(self, name: str, container_id: str, *, told: bool = False) -> None: ...

    async def remove(self, name: str, *, force: bool = False) -> None: ...

    def is_anonymous(self, name: str) -> bool: ...

    async def sweep(self) -> None:
        """Unmount volumes that no container has claimed since the start (after the restore)."""

    async def usage(self) -> list[Volume]:
        """All volumes with ``usage_data`` (``system df``)."""


class SandboxRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A created container that wants its network: namespace of process ``pid``."""

    container_id: str
    container_name: str
    hostname: str
    pid: int
    network_mode: str
    endpoints: dict[str, EndpointSettings]
    exposed_ports: list[str]
    port_bindings: dict[str, list[PortBinding]]
    publish_all: bool
    links: list[str]
    dns: list[str]
    dns_search: list[str]
    dns_options: list[str]
    domainname: str = ""
    #: ``name:address`` lines of /etc/hosts; the address may be ``host-gateway``; legacy links are
    #: ``alias hostname name:address``.
    extra_hosts: list[str] = []


#: What ``inspect`` shows of published ports: by ``80/tcp``.
Ports = dict[str, list[PortBinding] | None]


class Sandbox(msgspec.Struct, kw_only=True):
    """What an attached container has; ``setup`` is executed inside the namespace by the shim."""

    sandbox_id: str
    sandbox_key: str
    endpoints: dict[str, EndpointSettings]
    ports: Ports
    #: What the container asks for at its next start: its own settings, under the names of the
    #: networks, which they know by id.
    requested: dict[str, EndpointSettings] = {}


class EtcFiles(msgspec.Struct, frozen=True):
    """Contents of the container's files, made from its network."""

    hosts: str
    resolv_conf: str


class NetworkService(Protocol):
    """Life of a sandbox: ``attach`` -> ``detach``. The kernel's namespace is the container's own
    (made by the runtime); the service makes what is outside: link, addresses, ports, rules."""

    def check(self, network_mode: str, endpoints: Mapping[str, EndpointSettings]) -> None:
        """Refuse at create what can never work (static address without a subnet, ...)."""

    async def allocate(self, request: SandboxRequest) -> tuple[Sandbox, EtcFiles]:
        """Addresses and host ports, reserved in the database before anything is made.

        Called before the task is created (``pid`` 0), so that files and environment can tell;
        ``sandbox_key`` is ``/proc/<pid>/ns/net`` as soon as the task's pid is known. Not called for
        ``container:<id>`` mode. Endpoints come back under their networks' names.
        Raises ``NotFound``, ``Forbidden``, ``InvalidParameter`` and ``SystemError_`` with Docker's texts
        (what stands behind "failed to set up container networking: "); nothing stays reserved then.
        """

    async def attach(self, container_id: str, pid: int) -> pb.NetworkSetup:
        """Links, ports and rules of an allocated sandbox, for the namespace of *pid*."""

    async def detach(self, container_id: str) -> None:
        """Undo allocate and attach, also half-done ones; idempotent."""

    async def restore(self, running: Mapping[str, int]) -> Mapping[str, Ports]:
        """Make the kernel agree with *running* (container id -> pid) at start-up.

        Returns the ports of those with a sandbox: other options may publish less, or more.
        """

    async def rename(self, container_id: str, name: str) -> Sandbox | None:
        """The container's name in its networks from now on; None if it has no sandbox."""

    def network_id(self, name: str) -> str | None: ...


class NetworkedContainer(msgspec.Struct, frozen=True, kw_only=True):
    """A container as ``network connect`` and ``disconnect`` see it; ``pid`` 0 when it does not run.

    ``hosts_path`` and ``resolv_conf_path`` are its files of ``/etc`` on the host ("" before the first start).
    """

    id: str
    name: str
    hostname: str
    domainname: str
    network_mode: str
    pid: int
    endpoints: dict[str, EndpointSettings]
    hosts_path: str
    resolv_conf_path: str


class ContainerNetworks(Protocol):
    """The containers' side of connect and disconnect; bound to the networks by the daemon."""

    def hold(self, ref: str) -> AbstractAsyncContextManager[NetworkedContainer]:
        """By name, id or prefix; it neither starts nor stops nor goes within the block.

        Raises ``NotFound`` ("No such container: x").
        """

    async def set_endpoints(
        self, container_id: str, requested: Mapping[str, EndpointSettings], sandbox: Sandbox | None
    ) -> None:
        """What the container asks for from now on and, while it runs, has; persisted."""


class ContainerUse(msgspec.Struct, frozen=True):
    """A container as images, volumes and networks need to know it."""

    id: str
    name: str
    running: bool
    image_id: str
    image_name: str
    volumes: list[str]
    networks: list[str]
    #: Ids of the images whose trees it has mounted.
    mounted_images: list[str] = []


#: All containers, given to images, volumes and networks by the daemon.
ContainerUsers = Callable[[], Sequence[ContainerUse]]

__all__ = [
    "Committed",
    "ContainerNetworks",
    "ContainerUse",
    "ContainerUsers",
    "EtcFiles",
    "Image",
    "ImageService",
    "LayerService",
    "NetworkService",
    "NetworkedContainer",
    "Sandbox",
    "SandboxRequest",
    "VolumeService",
]
