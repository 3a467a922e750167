"""Parts of the API that this engine does not have: refused by name, with dockerd's status."""

from __future__ import annotations

from falcon.asgi import Request, Response

from services.protocol.errors import NotFound, Unavailable, Unimplemented

NO_MANAGER = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect '
    "this node to swarm and try again."
)
_NO_NODE = "This node is not part of a swarm"


class Swarm:
    """What dockerd answers when it is not in a swarm."""

    async def _refuse(self, req: Request, resp: Response, **_: str) -> None:
        raise Unavailable(NO_MANAGER)

    on_get = on_post = on_delete = on_get_one = on_post_one = on_delete_one = _refuse

    async def on_post_init(self, req: Request, resp: Response) -> None:
        raise Unimplemented("swarm mode is not supported")

    on_post_join = on_post_init

    async def on_post_leave(self, req: Request, resp: Response) -> None:
        raise Unavailable(_NO_NODE)


_PLUGIN_ACTIONS = ("json", "enable", "disable", "upgrade", "push", "set")


class Plugins:
    async def on_get_list(self, req: Request, resp: Response) -> None:
        resp.content_type = "application/json"
        resp.data = b"[]\n"

    async def on_get_one(self, req: Request, resp: Response, name: str) -> None:
        # A name may have slashes in it; what is to be done with the plugin is the last part.
        name, slash, action = name.rpartition("/")
        name = name if slash and action in _PLUGIN_ACTIONS else f"{name}{slash}{action}"
        raise NotFound(f'plugin "{name}" not found')

    on_post_one = on_delete_one = on_get_one

    async def on_get(self, req: Request, resp: Response, **_: str) -> None:
        raise Unimplemented("plugins are not supported")

    on_post = on_get


class Missing:
    """Routes that exist in Docker's API and have no implementation; *what* names the feature."""

    def __init__(self, what: str) -> None:
        self._what = what

    async def _refuse(self, req: Request, resp: Response, **_: str) -> None:
        raise Unimplemented(f"{self._what} is not supported")

    on_get = on_post = on_head = on_put = on_delete = _refuse
