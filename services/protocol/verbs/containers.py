"""Verbs on containers."""

from __future__ import annotations

import msgspec

from services.protocol.api import containers as api
from services.protocol.fdpass import Handover
from services.protocol.shim import ReadLogs
from services.protocol.verbs import Filters, Nothing, Ref, StreamVerb, Verb


class CreateArgs(msgspec.Struct, frozen=True):
    """``api_version`` is the request's, as (major, minor): defaults differ by version."""

    name: str
    request: api.CreateRequest
    platform: str = ""
    api_version: tuple[int, int] = (1, 51)


class StopArgs(msgspec.Struct, frozen=True):
    """Also restart. ``timeout`` in seconds, -1 for ever, None the container's own."""

    ref: str
    timeout: int | None = None
    signal: str = ""


class KillArgs(msgspec.Struct, frozen=True):
    ref: str
    signal: str = "SIGKILL"


class RenameArgs(msgspec.Struct, frozen=True):
    ref: str
    name: str


class RemoveArgs(msgspec.Struct, frozen=True):
    ref: str
    force: bool = False
    volumes: bool = False
    link: bool = False


class InspectArgs(msgspec.Struct, frozen=True):
    ref: str
    size: bool = False


class ListArgs(msgspec.Struct, frozen=True):
    """``limit`` 0 is no limit."""

    all: bool = False
    limit: int = 0
    size: bool = False
    filters: dict[str, list[str]] = {}


class WaitArgs(msgspec.Struct, frozen=True):
    """``condition``: not-running, next-exit or removed."""

    ref: str
    condition: str = "not-running"


class Waited(msgspec.Struct, frozen=True):
    """First item: ``registered`` only (the condition is being watched); second: the result."""

    registered: bool
    result: api.WaitReply | None = None


class AttachArgs(msgspec.Struct, frozen=True):
    """``stream`` and ``logs`` as in the API.

    Without ``multiplexed`` the output is raw even when there is no terminal (websockets).
    """

    ref: str
    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    logs: bool = False
    stream: bool = False
    detach_keys: str = ""
    multiplexed: bool = True


class LogsArgs(msgspec.Struct, frozen=True):
    """``request.multiplexed`` is filled in by the engine from the container's tty setting."""

    ref: str
    request: ReadLogs


class Stream(msgspec.Struct, frozen=True):
    """Where to hand the connection; ``tty`` decides raw or multiplexed content type.

    ``handover`` None: there is nothing to stream; the connection is upgraded, ``text`` is written
    as one frame of standard output (nothing when it is empty), and that is the end.
    """

    handover: Handover | None
    tty: bool
    text: str = ""


class ResizeArgs(msgspec.Struct, frozen=True):
    ref: str
    height: int
    width: int


class TopArgs(msgspec.Struct, frozen=True):
    ref: str
    ps_args: str = "-ef"


class StatsArgs(msgspec.Struct, frozen=True):
    ref: str
    stream: bool = True
    one_shot: bool = False


class UpdateArgs(msgspec.Struct, frozen=True):
    ref: str
    request: api.UpdateRequest


class ArchiveArgs(msgspec.Struct, frozen=True):
    ref: str
    path: str


class ArchivePutArgs(msgspec.Struct, frozen=True):
    """The tar stream is the request's descriptor ticket."""

    ref: str
    path: str
    no_overwrite_dir_non_dir: bool = False
    copy_uid_gid: bool = False


class PathStat(msgspec.Struct, frozen=True):
    """``mode`` is Go's ``os.FileMode``; ``mtime`` RFC 3339."""

    name: str
    size: int
    mode: int
    mtime: str
    link_target: str


class ArchiveStream(msgspec.Struct, frozen=True):
    stat: PathStat
    handover: Handover


class CommitArgs(msgspec.Struct, frozen=True):
    ref: str
    repo: str = ""
    tag: str = ""
    comment: str = ""
    author: str = ""
    pause: bool = True
    changes: list[str] = []
    config: api.Config | None = None


class Id(msgspec.Struct, frozen=True, rename="pascal"):
    id: str


CREATE = Verb("containers.create", CreateArgs, api.CreateReply)
START = Verb("containers.start", Ref, Nothing)
STOP = Verb("containers.stop", StopArgs, Nothing)
RESTART = Verb("containers.restart", StopArgs, Nothing)
KILL = Verb("containers.kill", KillArgs, Nothing)
PAUSE = Verb("containers.pause", Ref, Nothing)
UNPAUSE = Verb("containers.unpause", Ref, Nothing)
RENAME = Verb("containers.rename", RenameArgs, Nothing)
REMOVE = Verb("containers.remove", RemoveArgs, Nothing)
INSPECT = Verb("containers.inspect", InspectArgs, api.Inspect)
LIST = Verb("containers.list", ListArgs, list[api.Summary])
WAIT = StreamVerb("containers.wait", WaitArgs, Waited)
ATTACH = Verb("containers.attach", AttachArgs, Stream)
LOGS = Verb("containers.logs", LogsArgs, Stream)
RESIZE = Verb("containers.resize", ResizeArgs, Nothing)
TOP = Verb("containers.top", TopArgs, api.TopReply)
STATS = StreamVerb("containers.stats", StatsArgs, bytes)
UPDATE = Verb("containers.update", UpdateArgs, api.WarningsReply)
PRUNE = Verb("containers.prune", Filters, api.PruneReply)
CHANGES = Verb("containers.changes", Ref, list[api.FilesystemChange])
EXPORT = Verb("containers.export", Ref, Handover)
ARCHIVE_STAT = Verb("containers.archive-stat", ArchiveArgs, PathStat)
ARCHIVE_GET = Verb("containers.archive-get", ArchiveArgs, ArchiveStream)
ARCHIVE_PUT = Verb("containers.archive-put", ArchivePutArgs, Nothing)
COMMIT = Verb("containers.commit", CommitArgs, Id)
