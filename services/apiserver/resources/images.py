"""``/images``."""

from __future__ import annotations

import msgspec
from falcon.asgi import Request, Response

from services.apiserver import body, platforms, reply
from services.apiserver.client import Engine
from services.apiserver.query import Query
from services.apiserver.views import images as views
from services.protocol.errors import InvalidParameter, Unimplemented
from services.protocol.verbs import Filters
from services.protocol.verbs import images as verbs


class Images:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def on_get_list(self, req: Request, resp: Response) -> None:
        """``manifests`` adds nothing: images are kept without theirs, as in dockerd's graph driver store."""
        query = Query(req)
        filters = query.filters()
        if req.context.version >= (1, 54) and query.flag("identity") and not query.flag("manifests"):
            raise InvalidParameter("conflicting options: identity requires manifests=1")
        if req.context.version < (1, 25) and "reference" not in filters and query.text("filter"):
            filters["reference"] = [query.text("filter")]
        shared_size = req.context.version >= (1, 42) and query.flag("shared-size")
        args = verbs.ListArgs(query.flag("all"), filters, shared_size)
        rows = await self._engine.document(verbs.LIST, args)
        reply.document(resp, [views.summary(row, req.context.version) for row in rows])

    async def on_get_json(self, req: Request, resp: Response, name: str) -> None:
        platform = _platform_since(req, (1, 49))
        if platform and Query(req).flag("manifests"):
            raise InvalidParameter("conflicting options: manifests and platform options cannot both be set")
        args = verbs.InspectArgs(name, platform)
        found = await self._engine.document(verbs.INSPECT, args)
        shown = views.inspect(found, req.context.version)
        reply.document(resp, shown, html_safe=views.is_rewritten(shown, req.context.version))

    async def on_get_attestations(self, req: Request, resp: Response, name: str) -> None:
        """They are manifests beside an image's, of an index that is not kept (cf. :meth:`on_get_list`)."""
        given = Query(req).all("platform")
        if len(given) > 1:
            raise InvalidParameter("only one platform value is currently supported")
        for text in given:
            platforms.decode(text)
        raise Unimplemented("the legacy image store does not support attestations")

    async def on_get_history(self, req: Request, resp: Response, name: str) -> None:
        args = verbs.HistoryArgs(name, _platform_since(req, (1, 48)))
        reply.document(resp, await self._engine.document(verbs.HISTORY, args))

    async def on_post_tag(self, req: Request, resp: Response, name: str) -> None:
        query = Query(req)
        if not query.text("repo"):
            reply.nothing(resp, 200)  # as in dockerd: without a name there is nothing to do
            return
        args = verbs.TagArgs(name, query.text("repo"), query.text("tag"))
        await self._engine.call(verbs.TAG, args)
        reply.nothing(resp, 201)

    async def on_delete(self, req: Request, resp: Response, name: str) -> None:
        if not name.strip():
            raise InvalidParameter("image name cannot be blank")
        query = Query(req)
        args = verbs.RemoveArgs(
            name, query.flag("force"), query.flag("noprune"), _removed_platforms(req, query)
        )
        reply.document(resp, await self._engine.document(verbs.REMOVE, args))

    async def on_post_prune(self, req: Request, resp: Response) -> None:
        filters = Filters(Query(req).filters())
        reply.document(resp, await self._engine.document(verbs.PRUNE, filters))

    async def on_post_load(self, req: Request, resp: Response) -> None:
        query = Query(req)
        args = verbs.LoadArgs(query.flag("quiet", True), _platform_since(req, (1, 48)))
        await reply.with_upload(
            req,
            lambda reader: reply.progress(req, self._engine.stream(verbs.LOAD, args, fds=[reader])),
        )

    async def on_post_create(self, req: Request, resp: Response) -> None:
        """Pull (``fromImage``) or import (``fromSrc``)."""
        query = Query(req)
        if query.text("fromImage"):
            await self._pull(req, query)
        elif (source := query.text("fromSrc")) == "-":
            await self._import(req, query)
        else:
            # Nothing given is a URL as well, one without a host; the download says so.
            args = _import_args(req, query, source or "http://")
            await reply.progress(req, self._engine.stream(verbs.IMPORT, args))

    async def _pull(self, req: Request, query: Query) -> None:
        args = verbs.PullArgs(
            query.text("fromImage"),
            query.text("tag"),
            _created_platform(req, query),
            auth=req.get_header("x-registry-auth") or "",
        )
        await reply.progress(req, self._engine.stream(verbs.PULL, args))

    async def _import(self, req: Request, query: Query) -> None:
        args = _import_args(req, query, "")
        await reply.with_upload(
            req,
            lambda reader: reply.progress(req, self._engine.stream(verbs.IMPORT, args, fds=[reader])),
        )

    async def on_post_push(self, req: Request, resp: Response, name: str) -> None:
        query = Query(req)
        platform = _platform_since(req, (1, 46))
        args = verbs.PushArgs(name, query.text("tag"), platform, req.get_header("x-registry-auth") or "")
        await body.read(req)  # old clients send an empty document
        await reply.progress(req, self._engine.stream(verbs.PUSH, args))

    async def on_get_save(self, req: Request, resp: Response, name: str = "") -> None:
        query = Query(req)
        names = [name] if name else query.all("names")
        args = verbs.SaveArgs(names, _platform_since(req, (1, 48)))
        handover = await self._engine.call(verbs.SAVE, args)
        await reply.hand_over(req, handover, {"Content-Type": "application/x-tar"})

    async def on_get_distribution(self, req: Request, resp: Response, name: str) -> None:
        args = verbs.DistributionArgs(name, req.get_header("x-registry-auth") or "")
        document: bytes = await self._engine.call(verbs.DISTRIBUTION, args)
        reply.document(resp, msgspec.Raw(document))

    async def on_get_search(self, req: Request, resp: Response) -> None:
        query = Query(req)
        try:
            limit = query.integer("limit", 0) or 0
        except InvalidParameter as error:
            raise InvalidParameter(f"invalid limit specified: {error}") from None
        if limit < 0:
            raise InvalidParameter("invalid limit specified")
        auth = req.get_header("x-registry-auth") or ""
        args = verbs.SearchArgs(query.text("term"), limit, query.filters(), auth)
        document: bytes = await self._engine.call(verbs.SEARCH, args)
        reply.document(resp, msgspec.Raw(document))


def _platform_since(req: Request, version: tuple[int, int]) -> str:
    """``platform`` of a request that knows it from API *version* on; older ones do not look at it."""
    if req.context.version < version:
        return ""
    return platforms.only(Query(req).all("platform"), req.context.version)


def _removed_platforms(req: Request, query: Query) -> list[str]:
    if req.context.version < (1, 50):
        return []
    return [platforms.decode(text) for text in query.all("platforms")]


def _created_platform(req: Request, query: Query) -> str:
    """``platform`` of a pull or an import, which API versions before 1.32 do not know."""
    return query.text("platform") if req.context.version >= (1, 32) else ""


def _import_args(req: Request, query: Query, source: str) -> verbs.ImportArgs:
    return verbs.ImportArgs(
        query.text("repo"),
        query.text("tag"),
        query.text("message"),
        query.all("changes"),
        _created_platform(req, query),
        source,
    )
