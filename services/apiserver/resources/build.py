"""``POST /build``: the classic builder (API tag Image)."""

from __future__ import annotations

from typing import TypeVar

import msgspec
from falcon.asgi import Request, Response

from services.apiserver import gojson, reply
from services.apiserver.client import Engine
from services.apiserver.query import Query
from services.protocol.api.containers import Ulimit
from services.protocol.errors import InvalidParameter, SystemError_, Unimplemented
from services.protocol.verbs import builder as verbs

T = TypeVar("T")


class Build:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def on_post(self, req: Request, resp: Response) -> None:
        args = build_args(Query(req), req.get_header("x-registry-config") or "")
        await reply.with_upload(
            req,
            lambda reader: reply.progress(req, self._engine.stream(verbs.BUILD, args, fds=[reader])),
        )


class BuildPrune:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def on_post(self, req: Request, resp: Response) -> None:
        query = Query(req)
        args = verbs.PruneArgs(
            all=query.flag("all"),
            reserved_space=_bytes(query, "reserved-space") or _bytes(query, "keep-storage"),
            max_used_space=_bytes(query, "max-used-space"),
            min_free_space=_bytes(query, "min-free-space"),
            filters=query.filters(),
        )
        reply.document(resp, await self._engine.call(verbs.PRUNE, args))


class BuildCancel:
    async def on_post(self, req: Request, resp: Response) -> None:
        """Only BuildKit's builds have an id to be cancelled by: as with dockerd any other is one that is
        over."""
        if not Query(req).text("id"):
            raise InvalidParameter("build ID not provided")
        resp.content_type = "application/json"


def build_args(query: Query, registry_config: str = "") -> verbs.BuildArgs:
    """The query's shape; raises ``InvalidParameter`` and ``Unimplemented``.

    ``session`` says where BuildKit finds its client; this builder asks its client for nothing.
    """
    _refuse_buildkit(query)
    return verbs.BuildArgs(
        tags=query.all("t"),
        dockerfile=query.text("dockerfile") or "Dockerfile",
        build_args=_json(query, "buildargs", dict[str, str | None]) or {},
        labels={k: v or "" for k, v in (_json(query, "labels", dict[str, str | None]) or {}).items()},
        target=query.text("target"),
        cache_from=[name or "" for name in _json(query, "cachefrom", list[str | None]) or ()],
        no_cache=query.flag("nocache"),
        quiet=query.flag("q"),
        remove=query.flag("rm", True) or query.flag("forcerm"),
        force_remove=query.flag("forcerm"),
        network_mode=query.text("networkmode"),
        extra_hosts=[host for hosts in query.all("extrahosts") for host in hosts.split(",") if host],
        memory=_integer(query, "memory"),
        memory_swap=_integer(query, "memswap"),
        cpu_shares=_integer(query, "cpushares"),
        cpu_period=_integer(query, "cpuperiod"),
        cpu_quota=_integer(query, "cpuquota"),
        cpuset_cpus=query.text("cpusetcpus"),
        cpuset_mems=query.text("cpusetmems"),
        shm_size=_shm_size(query),
        ulimits=_json(query, "ulimits", list[Ulimit]) or [],
        cgroup_parent=query.text("cgroupparent"),
        platform=query.text("platform"),
        isolation=query.text("isolation"),
        security_opt=query.all("securityopt"),
        squash=query.flag("squash"),
        remote=query.text("remote"),
        pull=query.flag("pull"),
        registry_config=registry_config,
    )


def _integer(query: Query, name: str) -> int:
    """moby ``httputils.Int64ValueOrZero``: what is no number is 0."""
    try:
        return query.integer(name) or 0
    except InvalidParameter:
        return 0


def _shm_size(query: Query) -> int:
    try:
        return query.integer("shmsize") or 0
    except InvalidParameter as error:
        raise SystemError_(str(error).replace("strconv.Atoi", "strconv.ParseInt")) from None


def _bytes(query: Query, name: str) -> int:
    try:
        return query.integer(name) or 0
    except InvalidParameter as error:
        text = query.text(name)
        raise InvalidParameter(f"{name} is in bytes and expects an integer, got {text}: {error}") from None


class _Output(msgspec.Struct, rename="pascal"):
    type: str = ""
    attrs: dict[str, str] | None = None


def _refuse_buildkit(query: Query) -> None:
    version = query.text("version") or "1"
    if version not in ("1", "2"):
        raise InvalidParameter(f'invalid version "{version}"')
    if version == "2":
        raise Unimplemented("version 2 of the builder (BuildKit) is not implemented: use version 1")
    for output in _json(query, "outputs", list[_Output]) or []:
        if output.type not in ("moby", "image") or output.attrs:
            raise Unimplemented(f'output "{output.type}" of a build is not implemented: it needs BuildKit')


#: Beginning of the error, and what Go calls the type.
_CALLED = {
    "buildargs": ("error reading build args", "map[string]*string"),
    "labels": ("error reading labels", "map[string]string"),
    "cachefrom": ("error reading cache-from", "[]string"),
    "ulimits": ("error reading ulimit settings", "[]*units.Ulimit"),
    "outputs": ("invalid outputs specified", "[]buildbackend.BuildOutput"),
}


def _json(query: Query, name: str, kind: type[T]) -> T | None:
    text = query.text(name)
    if not text or text == "null":
        return None
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.MsgspecError as error:
        beginning, wanted = _CALLED[name]
        problem = gojson.problem(text.encode("utf-8", "replace"), wanted, str(error))
        raise InvalidParameter(f"{beginning}: {problem}") from error
