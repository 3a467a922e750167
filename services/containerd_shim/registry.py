"""All shims of this daemon: started, found again, lost.

A shim is found through its directory: its socket answers, or it is dead. A dead one's container is
killed and its record marked as lost; for the callers it is then a stopped task, until they delete it.
"""

from __future__ import annotations

import asyncio
import logging
import re
import shutil
import time
from collections.abc import Coroutine
from pathlib import Path

from services.containerd_shim import state
from services.containerd_shim.hub import EventHub
from services.containerd_shim.links import ShimDied, ShimLink
from services.containerd_shim.logdrivers.options import parse
from services.containerd_shim.lost import ANSWERED, answer_lost, lost_events, mark_lost
from services.containerd_shim.zygote_client import ZygoteClient
from services.protocol import fdpass
from services.protocol import task_pb2 as pb
from services.protocol.errors import Conflict, InvalidParameter, NotFound, Unavailable, WharfError
from services.protocol.paths import ExecRoot

log = logging.getLogger(__name__)

#: How often the zygote is asked to end what a dead shim left, before it is done here.
_RECLAIMS = 3

_ID = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$")


class Registry:
    """One per service."""

    def __init__(self, exec_root: ExecRoot, zygote: ZygoteClient, events: EventHub) -> None:
        self._exec_root = exec_root
        self._zygote = zygote
        self._events = events
        self._links: dict[str, ShimLink] = {}
        self._lost: dict[str, state.ShimRecord] = {}
        #: Containers that are being started or reclaimed: calls wait for the outcome.
        self._unsettled: dict[str, asyncio.Task[None]] = {}
        self._closing = False

    async def recover(self) -> None:
        """Connect to the shims that live, reclaim what the others left."""
        self._exec_root.shims.mkdir(mode=0o711, parents=True, exist_ok=True)
        for directory in sorted(self._exec_root.shims.iterdir()):
            self._settle(directory.name, self._recover(directory))
        await asyncio.gather(*self._unsettled.values())

    async def _recover(self, directory: Path) -> None:
        container_id = directory.name
        try:
            link = self._link(container_id)
        except Unavailable:
            await self._reclaim(container_id)
            return
        try:
            await link.synchronised()
        except Unavailable:
            await self._reclaim(container_id)  # it died just now
            return
        self._links[container_id] = link

    def _link(self, container_id: str) -> ShimLink:
        socket = self._exec_root.shim_socket(container_id)
        return ShimLink(container_id, socket, self._events.publish, self._link_lost)

    def _settle(self, container_id: str, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Run *work*, one at a time for each container; calls for it wait."""
        before = self._unsettled.get(container_id)

        async def run() -> None:
            if before is not None:
                await asyncio.wait([before])
            try:
                await work
            finally:
                if self._unsettled.get(container_id) is task:
                    del self._unsettled[container_id]

        task = asyncio.create_task(run(), name=f"settle {container_id}")
        task.add_done_callback(_retrieve)
        self._unsettled[container_id] = task
        return task

    async def _wait_settled(self, container_id: str) -> None:
        while (task := self._unsettled.get(container_id)) is not None:
            await asyncio.wait([task])

    async def start(self, request: pb.StartShimRequest) -> pb.StartShimResponse:
        """The shim of a container, forked if there is none."""
        if not _ID.match(request.id):
            raise InvalidParameter(f"invalid container id: {request.id!r}")
        if request.log.driver not in ("", "none"):
            parse(request.log.driver, request.log.options)
        await self._wait_settled(request.id)
        if request.id in self._lost:
            raise Conflict(f"the shim of container {request.id} died and has not been deleted")
        if (ending := self._links.get(request.id)) is not None and ending.deleted:
            self._forget(ending)  # its end is yet to come, and nobody may have waited for its answer
        if request.id not in self._links:
            task = self._settle(request.id, self._start(request))
            await asyncio.shield(task)
        link = self._links.get(request.id)
        if link is None:
            raise Unavailable(f"the shim of container {request.id} died as soon as it had started")
        return pb.StartShimResponse(socket=str(link.socket), pid=link.pid)

    async def _start(self, request: pb.StartShimRequest) -> None:
        directory = self._exec_root.shim_dir(request.id)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        socket = self._exec_root.shim_socket(request.id)
        listener = fdpass.listen(socket)
        with listener:
            pid = await self._zygote.fork_shim(directory, request.SerializeToString(), listener)
        try:
            link = self._link(request.id)
            link.pid = pid
            await link.synchronised()
        except Unavailable as error:
            reason = _last_line(directory / "shim.log")
            shutil.rmtree(directory, ignore_errors=True)
            raise Unavailable(f"the shim of container {request.id} did not start: {reason}") from error
        self._links[request.id] = link

    def _link_lost(self, link: ShimLink) -> None:
        """The connection has ended: after Delete as it should, otherwise the shim is dead."""
        if self._links.get(link.id) is not link:
            return
        if link.deleted:
            self._forget(link)
            return
        del self._links[link.id]
        if not self._closing:
            log.error("the shim of container %s has died", link.id)
            self._settle(link.id, self._reclaim(link.id))

    def _forget(self, link: ShimLink) -> None:
        """Its task is deleted, whether or not who asked for that is still there."""
        if self._links.get(link.id) is link:
            del self._links[link.id]
            self._events.forget(link.id)

    async def _reclaim(self, container_id: str) -> None:
        """End what a dead shim left, and tell of it."""
        directory = self._exec_root.shim_dir(container_id)
        known = state.load(directory)
        if known is None:
            shutil.rmtree(directory, ignore_errors=True)
            return  # the shim never came up, or its deletion was cut off
        record = known if known.lost else await self._end_lost(directory, known)
        self._lost[container_id] = record
        for event in lost_events(record, max(time.time_ns(), self._events.latest(container_id) + 1)):
            self._events.publish(event)

    async def _end_lost(self, directory: Path, known: state.ShimRecord) -> state.ShimRecord:
        """Its record, which says that it is lost whatever became of those who were to end it."""
        for attempt in range(_RECLAIMS + 1):
            try:
                if attempt < _RECLAIMS:
                    await self._zygote.reclaim(directory)
                else:
                    await asyncio.to_thread(_reclaim_here, directory)
            except Exception as error:  # an exit that nobody is told of would be waited for without end
                log.error("container %s could not be reclaimed: %s", known.id, error)
            if (record := state.load(directory)) is not None and record.lost:
                return record
        mark_lost(known)
        return known

    async def call(self, container_id: str, method: str, request: bytes) -> bytes:
        """The serialised response of *method*; raises what the shim raised."""
        await self._wait_settled(container_id)
        link = self._links.get(container_id)
        if link is not None:
            try:
                return await self._call_link(link, method, request)
            except ShimDied:
                if method not in ANSWERED:
                    raise
            await self._wait_settled(container_id)
        if (record := self._lost.get(container_id)) is not None:
            response = answer_lost(record, method, request)
            if method == "Delete":
                self._delete_lost(container_id, request)
            return response
        if link is not None and method == "Delete" and not link.deleted and container_id not in self._links:
            return self._delete_rest(container_id, request)
        raise NotFound(f"task {container_id} not found")

    async def _call_link(self, link: ShimLink, method: str, request: bytes) -> bytes:
        if method != "Delete":
            return await link.call(method, request)
        exec_id = pb.DeleteRequest.FromString(request).exec_id
        response = await link.call(method, request, final=not exec_id)
        if exec_id:
            self._events.forget(link.id, exec_id)
        else:
            self._forget(link)
        return response

    def _delete_lost(self, container_id: str, request: bytes) -> None:
        if pb.DeleteRequest.FromString(request).exec_id:
            return
        del self._lost[container_id]
        self._events.forget(container_id)
        shutil.rmtree(self._exec_root.shim_dir(container_id), ignore_errors=True)

    def _delete_rest(self, container_id: str, request: bytes) -> bytes:
        """Of a shim that died over its deletion, when it had removed its record already."""
        if pb.DeleteRequest.FromString(request).exec_id:
            raise NotFound(f"task {container_id} not found")
        self._events.forget(container_id)
        shutil.rmtree(self._exec_root.shim_dir(container_id), ignore_errors=True)
        return pb.DeleteResponse().SerializeToString()

    async def list(self) -> list[pb.StateResponse]:
        """The state of every task."""
        ids = {*self._links, *self._lost, *self._unsettled}
        found = await asyncio.gather(*(self._state(each) for each in sorted(ids)), return_exceptions=True)
        return [state_ for state_ in found if isinstance(state_, pb.StateResponse)]

    async def _state(self, container_id: str) -> pb.StateResponse:
        request = pb.StateRequest(id=container_id).SerializeToString()
        return pb.StateResponse.FromString(await self.call(container_id, "State", request))

    async def connect(self, request: pb.ConnectRequest) -> pb.ConnectResponse:
        data = await self.call(request.id, "Connect", request.SerializeToString())
        response = pb.ConnectResponse.FromString(data)
        response.socket = str(self._exec_root.shim_socket(request.id))
        return response

    def close(self) -> None:
        """Leave the shims to themselves."""
        self._closing = True
        for link in self._links.values():
            link.close()


def _retrieve(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, WharfError):
        log.error("%s failed", task.get_name(), exc_info=error)


def _reclaim_here(directory: Path) -> None:
    """Without the zygote, as the last resort. What it takes is not imported before."""
    from services.containerd_shim.reclaim import reclaim

    reclaim(directory)


def _last_line(path: Path) -> str:
    try:
        lines = path.read_text(errors="replace").strip().splitlines()
    except OSError:
        lines = []
    return lines[-1] if lines else "no reason is known"
