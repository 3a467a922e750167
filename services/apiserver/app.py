"""The application: the only place where the parts of the API server are put together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import falcon.asgi

from services.apiserver import errors
from services.apiserver.client import Engine
from services.apiserver.events import EventHub
from services.apiserver.middleware.paths import CleanPathMiddleware
from services.apiserver.middleware.version import VersionMiddleware
from services.apiserver.resources.absent import Missing, Plugins, Swarm
from services.apiserver.resources.attach_ws import AttachWebSocket
from services.apiserver.resources.build import Build, BuildCancel, BuildPrune
from services.apiserver.resources.containers import Containers
from services.apiserver.resources.execs import Execs
from services.apiserver.resources.images import Images
from services.apiserver.resources.networks import Networks
from services.apiserver.resources.streams import ContainerStreams
from services.apiserver.resources.system import System
from services.apiserver.resources.volumes import Volumes
from services.apiserver.routing import Router

App = falcon.asgi.App[Any, Any]


@dataclass(frozen=True)
class Services:
    """What the resources use."""

    engine: Engine
    events: EventHub


def create_app(services: Services) -> App:
    app: App = falcon.asgi.App(
        middleware=[CleanPathMiddleware(), VersionMiddleware()],
        router=Router(),
    )
    app.resp_options.default_media_type = None  # type: ignore[assignment]
    app.req_options.strip_url_path_trailing_slash = False
    errors.register(app)
    _system(app, System(services.engine, services.events))
    _containers(app, services.engine)
    _images(app, Images(services.engine))
    app.add_route("/build", Build(services.engine))
    app.add_route("/build/prune", BuildPrune(services.engine))
    app.add_route("/build/cancel", BuildCancel())
    _networks(app, Networks(services.engine))
    _volumes(app, Volumes(services.engine))
    _absent(app)
    return app


def _system(app: App, system: System) -> None:
    app.add_route("/_ping", system, suffix="ping")
    app.add_route("/version", system, suffix="version")
    app.add_route("/info", system, suffix="info")
    app.add_route("/events", system, suffix="events")
    app.add_route("/system/df", system, suffix="df")
    app.add_route("/auth", system, suffix="auth")
    app.add_route("/{any}", system, suffix="options_any")


def _containers(app: App, engine: Engine) -> None:
    """In dockerd's order: a name may hold slashes, so the first fitting route wins."""
    containers, streams, execs = Containers(engine), ContainerStreams(engine), Execs(engine)
    app.add_route("/containers/{name}/archive", streams, suffix="archive")
    app.add_route("/containers/json", containers, suffix="list")
    app.add_route("/containers/{name}/export", streams, suffix="export")
    app.add_route("/containers/{name}/changes", containers, suffix="changes")
    app.add_route("/containers/{name}/json", containers, suffix="json")
    app.add_route("/containers/{name}/top", containers, suffix="top")
    app.add_route("/containers/{name}/logs", streams, suffix="logs")
    app.add_route("/containers/{name}/stats", containers, suffix="stats")
    app.add_route("/containers/{name}/attach/ws", AttachWebSocket(engine))
    app.add_route("/exec/{name}/json", execs, suffix="json")
    app.add_route("/containers/create", containers, suffix="create")
    for verb in ("kill", "pause", "unpause", "restart", "start", "stop", "wait", "resize"):
        app.add_route(f"/containers/{{name}}/{verb}", containers, suffix=verb)
    app.add_route("/containers/{name}/attach", streams, suffix="attach")
    app.add_route("/containers/{name}/exec", execs, suffix="create")
    app.add_route("/exec/{name}/start", execs, suffix="start")
    app.add_route("/exec/{name}/resize", execs, suffix="resize")
    app.add_route("/containers/{name}/rename", containers, suffix="rename")
    app.add_route("/containers/{name}/update", containers, suffix="update")
    app.add_route("/containers/prune", containers, suffix="prune")
    app.add_route("/commit", containers, suffix="commit")
    app.add_route("/containers/{name}", containers)


def _images(app: App, images: Images) -> None:
    app.add_route("/images/json", images, suffix="list")
    app.add_route("/images/search", images, suffix="search")
    app.add_route("/images/get", images, suffix="save")
    app.add_route("/images/{name}/get", images, suffix="save")
    app.add_route("/images/{name}/attestations", images, suffix="attestations")
    app.add_route("/images/{name}/history", images, suffix="history")
    app.add_route("/images/{name}/json", images, suffix="json")
    app.add_route("/images/load", images, suffix="load")
    app.add_route("/images/create", images, suffix="create")
    app.add_route("/images/{name}/push", images, suffix="push")
    app.add_route("/images/{name}/tag", images, suffix="tag")
    app.add_route("/distribution/{name}/json", images, suffix="distribution")
    app.add_route("/images/prune", images, suffix="prune")
    app.add_route("/images/{name}", images)


def _networks(app: App, networks: Networks) -> None:
    app.add_route("/networks", networks, suffix="list")
    app.add_route("/networks/", networks, suffix="list")
    app.add_route("/networks/create", networks, suffix="create")
    app.add_route("/networks/{name}/connect", networks, suffix="connect")
    app.add_route("/networks/{name}/disconnect", networks, suffix="disconnect")
    app.add_route("/networks/prune", networks, suffix="prune")
    app.add_route("/networks/{name}", networks)


def _volumes(app: App, volumes: Volumes) -> None:
    app.add_route("/volumes", volumes, suffix="list")
    app.add_route("/volumes/create", volumes, suffix="create")
    app.add_route("/volumes/prune", volumes, suffix="prune")
    app.add_route("/volumes/{name}", volumes)


def _absent(app: App) -> None:
    swarm = Swarm()
    app.add_route("/swarm/init", swarm, suffix="init")
    app.add_route("/swarm/join", swarm, suffix="join")
    app.add_route("/swarm/leave", swarm, suffix="leave")
    for path in ("/swarm", "/swarm/{name}", "/services", "/services/{name}", "/nodes", "/nodes/{name}"):
        app.add_route(path, swarm)
    for path in ("/tasks", "/tasks/{name}", "/secrets", "/secrets/{name}", "/configs", "/configs/{name}"):
        app.add_route(path, swarm)
    plugins = Plugins()
    app.add_route("/plugins", plugins, suffix="list")
    app.add_route("/plugins/privileges", plugins)
    app.add_route("/plugins/pull", plugins)
    app.add_route("/plugins/create", plugins)
    app.add_route("/plugins/{name}", plugins, suffix="one")
    for path, what in (
        ("/session", "BuildKit"),
        ("/grpc", "BuildKit"),
        ("/containers/{name}/checkpoints", "checkpoint and restore"),
        ("/containers/{name}/checkpoints/{checkpoint}", "checkpoint and restore"),
        ("/debug/{name}", "debugging over the API"),
    ):
        app.add_route(path, Missing(what))
