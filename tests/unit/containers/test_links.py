"""Legacy links: names they give, lines of /etc/hosts, removal."""

from __future__ import annotations

import pytest

from services.engine.containers.inspect import inspect
from services.engine.containers.links import link_hosts, link_names, parse_link, remove_link
from services.engine.containers.model import ContainerState, Entry, Status
from services.protocol.api.networks import EndpointSettings
from services.protocol.errors import InvalidParameter, NotFound, SystemError_
from services.protocol.verbs.containers import InspectArgs
from tests.unit.containers.world import World, run


@pytest.fixture
def app(world: World) -> Entry:
    run(world.made({"Hostname": "dbhost"}, "db"))
    return run(world.made({"HostConfig": {"Links": ["db", "db:store", "db:store"]}}, "app"))


def start(entry: Entry) -> None:
    entry.state = ContainerState(
        status=Status.RUNNING, pid=1, endpoints={"bridge": EndpointSettings(ip_address="172.17.0.2")}
    )


def test_a_link_is_a_name(world: World, app: Entry) -> None:
    registry = world.services.registry
    assert registry.get("/app/store") is registry.get("app/db") is registry.get("db")
    assert link_names(registry) == {registry.get("db").id: ["/app/db", "/app/store"]}
    with pytest.raises(NotFound):
        registry.get("app/nosuch")


def test_lines_of_hosts(world: World, app: Entry) -> None:
    with pytest.raises(SystemError_) as raised:
        link_hosts(world.services.registry, app)
    assert str(raised.value) == "Cannot link to a non running container: /db AS /app/db"
    start(world.services.registry.get("db"))
    assert link_hosts(world.services.registry, app) == ["db dbhost:172.17.0.2", "store dbhost db:172.17.0.2"]


def test_removal(world: World, app: Entry) -> None:
    registry = world.services.registry
    run(remove_link(registry, "app/db"))
    assert app.definition.host_config.links == [f"{registry.get('db').id}:store"]
    with pytest.raises(SystemError_, match="cannot remove the default link name"):
        run(remove_link(registry, "app"))
    with pytest.raises(NotFound, match="No such container: app/db"):
        run(remove_link(registry, "app/db"))


def test_links_are_deprecated(world: World) -> None:
    run(world.made(name="db"))
    reply = run(world.create({"Image": "busybox", "HostConfig": {"Links": ["db"]}}))
    assert reply.warnings == [
        "Links on the default bridge network are deprecated and will be removed in a future release. "
        "Use a custom network instead."
    ]


def test_parse() -> None:
    assert parse_link("/db:/app/store") == ("/db", "store")
    with pytest.raises(InvalidParameter, match="bad format for links: a:b:c"):
        parse_link("a:b:c")


def test_links_of_a_user_defined_network_are_the_endpoints(world: World) -> None:
    run(world.made({"HostConfig": {"NetworkMode": "n1", "Links": ["later:x"]}}, "app"))
    document = run(inspect(world.services, InspectArgs("app")))
    assert document.host_config.links is None
