"""Exec documents (``/containers/{id}/exec`` and ``/exec/{id}``)."""

from __future__ import annotations

from msgspec import UNSET, UnsetType, field

from services.protocol.api.base import Model


class ExecConfig(Model, kw_only=True):
    """Body of ``POST /containers/{id}/exec``."""

    user: str = ""
    privileged: bool = False
    tty: bool = False
    console_size: list[int] | None = None
    attach_stdin: bool = False
    attach_stderr: bool = False
    attach_stdout: bool = False
    detach_keys: str = ""
    env: list[str] | None = None
    working_dir: str = ""
    cmd: list[str] | None = None


class ExecStart(Model, kw_only=True):
    """Body of ``POST /exec/{id}/start``; ``console_size`` is [height, width]."""

    detach: bool = False
    tty: bool = False
    console_size: list[int] | None = None


class IdReply(Model, kw_only=True):
    id: str


class ProcessConfig(Model, kw_only=True):
    tty: bool = field(name="tty")
    entrypoint: str = field(name="entrypoint")
    arguments: list[str] = field(name="arguments")
    privileged: bool | UnsetType = field(name="privileged", default=UNSET)
    user: str | UnsetType = field(name="user", default=UNSET)


class ExecInspect(Model, kw_only=True):
    exec_id: str
    running: bool
    exit_code: int | None
    process_config: ProcessConfig
    open_stdin: bool
    open_stderr: bool
    open_stdout: bool
    can_remove: bool
    container_id: str
    detach_keys: str
    pid: int
