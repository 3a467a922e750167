"""What a container is: its definition, its state, and what only this process knows of it.

Three separate things on purpose. :class:`Container` is the definition, written at create and by
rename/update. :class:`ContainerState` is written at each transition. Neither holds anything that
dies with the process; that is :class:`Runtime`.
"""

from __future__ import annotations

import asyncio
import enum

import msgspec

from services.protocol import oci
from services.protocol.api.containers import Config, HealthLog, HostConfig, PortBinding
from services.protocol.api.networks import EndpointSettings
from services.protocol.errors import WharfError


class Status(enum.StrEnum):
    """Docker's container states, as ``State.Status`` shows them."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    RESTARTING = "restarting"
    REMOVING = "removing"
    EXITED = "exited"
    DEAD = "dead"


class MountKind(enum.StrEnum):
    BIND = "bind"
    VOLUME = "volume"
    TMPFS = "tmpfs"
    IMAGE = "image"


class ContainerMount(msgspec.Struct, kw_only=True):
    """A mount point of the container, resolved at create.

    ``source`` is a host path (bind) or empty until a volume is mounted; ``name`` is the volume's, or the
    image as it was asked for, whose id and layers ``image_id`` and ``chain_id`` tell.
    ``mode`` is the text of a bind's third part; ``spec`` marks one that came from ``Mounts``.
    With ``inside`` the source of a bind is a path in that file system, which the runtime mounts.
    """

    kind: MountKind
    destination: str
    source: str = ""
    name: str = ""
    driver: str = ""
    rw: bool = True
    mode: str = ""
    propagation: str = ""
    copy_data: bool = True
    subpath: str = ""
    tmpfs_options: list[str] = []
    create_source: bool = False
    non_recursive: bool = False
    read_only_non_recursive: bool = False
    read_only_force_recursive: bool = False
    from_mounts_api: bool = False
    inside: oci.Mount | None = None
    image_id: str = ""
    chain_id: str = ""


class Container(msgspec.Struct, kw_only=True):
    """The definition. ``created_at`` is Unix nanoseconds; ``name`` has no slash.

    ``image_reference`` is what the user typed, ``image_id`` what it was then. ``log_path`` is ""
    when the log driver writes no file. ``request_id`` makes a repeated create idempotent.
    """

    id: str
    name: str
    created_at: int
    path: str
    args: list[str]
    config: Config
    host_config: HostConfig
    image_id: str
    image_reference: str
    chain_id: str
    os: str = "linux"
    driver: str
    endpoints: dict[str, EndpointSettings] = {}
    mounts: list[ContainerMount] = []
    log_path: str = ""
    request_id: str = ""
    app_armor_profile: str = ""
    process_label: str = ""
    mount_label: str = ""


class HealthState(msgspec.Struct, kw_only=True):
    status: str = "starting"
    failing_streak: int = 0
    log: list[HealthLog] = []


class ContainerState(msgspec.Struct, kw_only=True):
    """The state. Times are Unix nanoseconds, 0 is never.

    ``manually_stopped`` keeps restart policies from starting it; ``auto_remove_pending`` survives a
    crash between exit and removal. ``held_for_commit``: who pauses it, or is about to, is the engine,
    which wakes it again. ``spared``: a restart ends it, which is no reason to remove it. The sandbox
    fields are those of the running task.
    """

    status: Status = Status.CREATED
    pid: int = 0
    exit_code: int = 0
    error: str = ""
    oom_killed: bool = False
    started_at: int = 0
    finished_at: int = 0
    restart_count: int = 0
    manually_stopped: bool = False
    has_been_started: bool = False
    auto_remove_pending: bool = False
    held_for_commit: bool = False
    spared: bool = False
    health: HealthState | None = None
    sandbox_id: str = ""
    sandbox_key: str = ""
    endpoints: dict[str, EndpointSettings] = {}
    ports: dict[str, list[PortBinding] | None] = {}


class Exec(msgspec.Struct, kw_only=True):
    """An exec of a container; lives in the engine's memory and, once started, in the shim."""

    id: str
    container_id: str
    path: str
    args: list[str]
    env: list[str]
    tty: bool
    user: str
    working_dir: str
    privileged: bool
    attach_stdin: bool
    attach_stdout: bool
    attach_stderr: bool
    detach_keys: str
    console_size: tuple[int, int] | None = None
    running: bool = False
    started: bool = False
    pid: int = 0
    exit_code: int | None = None


class Runtime:
    """What this engine process knows of a container and nobody else."""

    def __init__(self) -> None:
        #: Held over every transition (start, stop, remove, rename, update).
        self.lock = asyncio.Lock()
        #: Set and replaced at every change of state; waiters look again.
        self.changed = asyncio.Event()
        self.execs: dict[str, Exec] = {}
        #: Restart back-off in seconds; the task that waits for it.
        self.restart_delay = 0.0
        self.restart_timer: asyncio.Task[None] | None = None
        #: A signal meant to end it was sent: no restart policy brings it back from that exit.
        self.stop_requested = False
        #: A shim without a log was forked for an attach, because of this; the start fails with it.
        self.log_failure: WharfError | None = None
        #: Somebody removes it; a second removal is refused.
        self.removal_in_progress = False
        #: The removal has been carried out to its end.
        self.gone = False
        #: Exits that this engine process has recorded, or found recorded and not acknowledged.
        self.exits = 0
        self.health_monitor: asyncio.Task[None] | None = None

    def notify(self) -> None:
        """Wake everybody who waits for a change."""
        self.changed.set()
        self.changed = asyncio.Event()


class Entry:
    """A container as the registry holds it."""

    __slots__ = ("definition", "runtime", "state")

    def __init__(self, definition: Container, state: ContainerState) -> None:
        self.definition = definition
        self.state = state
        self.runtime = Runtime()

    @property
    def id(self) -> str:
        return self.definition.id
