"""``/containers/{id}``: attach, logs, archive, export: what is handed over to the owner of the bytes."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterator

import falcon
import msgspec
from falcon.asgi import Request, Response

from services.apiserver import body, headers, reply, upgrade
from services.apiserver.client import Engine
from services.apiserver.query import Query, atoi, timestamp
from services.protocol.errors import Conflict, InvalidParameter, SystemError_, Unreachable, WharfError
from services.protocol.shim import ReadLogs
from services.protocol.verbs import Ref
from services.protocol.verbs import containers as verbs

_TAR = "application/x-tar"


#: A container may stop, be restarted or removed between the engine's look at it and the hand-over to who
#: serves it; each time the engine waits until it knows. True for the last try.
_TRIES = (False, False, False, False, True)
#: What tells that a root, or its reader, has gone.
_ROOT_GONE = (Conflict, Unreachable, SystemError_)


@contextlib.contextmanager
def _again(last: bool, *gone: type[WharfError]) -> Iterator[None]:
    """For one of *gone* before anything has been written: ask the engine once more, which knows another
    place, or why there is none."""
    try:
        yield
    except gone:
        if last:
            raise


class _PathStat(msgspec.Struct):
    """Names of the header's JSON (moby ``container.PathStat``)."""

    name: str
    size: int
    mode: int
    mtime: str
    linkTarget: str


class ContainerStreams:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def on_post_attach(self, req: Request, resp: Response, name: str) -> None:
        query = Query(req)
        args = verbs.AttachArgs(
            name,
            stdin=query.flag("stdin"),
            stdout=query.flag("stdout"),
            stderr=query.flag("stderr"),
            logs=query.flag("logs"),
            stream=query.flag("stream"),
            detach_keys=query.text("detachKeys"),
        )
        try:
            for last in _TRIES:
                with _again(last, Unreachable):  # its shim has ended
                    await upgrade.stream(req, await self._engine.call(verbs.ATTACH, args))
                    return
        except WharfError as error:
            upgrade.attach_error(resp, error)

    async def on_get_logs(self, req: Request, resp: Response, name: str) -> None:
        query = Query(req)
        stdout, stderr = query.flag("stdout"), query.flag("stderr")
        if not stdout and not stderr:
            raise InvalidParameter("must specify at least one of 'stdout' or 'stderr'")
        request = ReadLogs(
            stdout=stdout,
            stderr=stderr,
            since=timestamp('"since"', query.text("since")),
            until=timestamp('"until"', query.text("until")),
            tail=_tail(query.text("tail")),
            follow=query.flag("follow"),
            timestamps=query.flag("timestamps"),
            details=query.flag("details"),
        )
        args = verbs.LogsArgs(name, request)
        for last in _TRIES:
            with _again(last, Unreachable):  # from its file now, or from the next run's shim
                await self._send_logs(req, resp, args)
                return

    async def _send_logs(self, req: Request, resp: Response, args: verbs.LogsArgs) -> None:
        stream = await self._engine.call(verbs.LOGS, args)
        content_type = headers.stream_type(stream.tty, req.context.version)
        if stream.handover is None:
            resp.content_type = content_type
            resp.data = b""
        else:
            await reply.hand_over(req, stream.handover, {"Content-Type": content_type})

    async def on_get_export(self, req: Request, resp: Response, name: str) -> None:
        for last in _TRIES:
            handover = await self._engine.call(verbs.EXPORT, Ref(name))
            with _again(last, *_ROOT_GONE):
                await reply.hand_over(req, handover, {"Content-Type": "application/octet-stream"})
                return

    async def on_head_archive(self, req: Request, resp: Response, name: str) -> None:
        stat = await self._engine.call(verbs.ARCHIVE_STAT, self._archive_args(req, name))
        resp.set_header("X-Docker-Container-Path-Stat", _stat_header(stat))

    async def on_get_archive(self, req: Request, resp: Response, name: str) -> None:
        for last in _TRIES:
            stream = await self._engine.call(verbs.ARCHIVE_GET, self._archive_args(req, name))
            fields = {"Content-Type": _TAR, "X-Docker-Container-Path-Stat": _stat_header(stream.stat)}
            with _again(last, *_ROOT_GONE):
                await reply.hand_over(req, stream.handover, fields)
                return

    async def on_put_archive(self, req: Request, resp: Response, name: str) -> None:
        query = Query(req)
        path = self._archive_args(req, name).path
        args = verbs.ArchivePutArgs(name, path, query.flag("noOverwriteDirNonDir"), query.flag("copyUIDGID"))
        with body.exchange_of(req).bound_to_client():
            await reply.with_upload(
                req, lambda reader: self._engine.call(verbs.ARCHIVE_PUT, args, fds=[reader])
            )
        resp.status = falcon.HTTP_200
        resp.data = b""

    @staticmethod
    def _archive_args(req: Request, name: str) -> verbs.ArchiveArgs:
        path = Query(req).text("path")
        if not name:
            raise InvalidParameter("bad parameter: 'name' cannot be empty")
        if not path:
            raise InvalidParameter("bad parameter: 'path' cannot be empty")
        return verbs.ArchiveArgs(name, path)


def _tail(text: str) -> int:
    """Lines from the end; anything but a number is all of them."""
    try:
        return max(atoi(text), -1)
    except InvalidParameter:
        return -1


def _stat_header(stat: verbs.PathStat) -> str:
    document = _PathStat(stat.name, stat.size, stat.mode, stat.mtime, stat.link_target)
    return base64.b64encode(msgspec.json.encode(document)).decode()
