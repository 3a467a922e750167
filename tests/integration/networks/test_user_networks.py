"""User-defined networks: isolation, joining and leaving while a container runs."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from services.engine.networks.verbs import register
from services.engine.rpc import Context
from services.protocol.api.containers import PortBinding
from services.protocol.api.networks import (
    IPAM,
    ConnectRequest,
    DisconnectRequest,
    EndpointIPAMConfig,
    EndpointSettings,
    IPAMConfig,
    NetworkCreateRequest,
)
from services.protocol.errors import Conflict, Forbidden, InvalidParameter, NotFound, SystemError_
from services.protocol.verbs import Ref
from services.protocol.verbs import networks as verbs
from tests.integration.networks.conftest import Lab, fetch, gets_nothing


def create(lab: Lab, name: str, subnet: str, **more: object) -> str:
    ipam = IPAM(config=[IPAMConfig(subnet=subnet)])
    return lab.run(lab.controller.create(NetworkCreateRequest(name=name, ipam=ipam, **more))).id


def test_networks_are_apart_but_published_ports_are_shared(lab: Lab) -> None:
    create(lab, "n1", "10.213.1.0/24")
    create(lab, "n2", "10.213.2.0/24")
    web = lab.box("web", "n1", {"80/tcp": [PortBinding(host_port="28090")]})
    peer, stranger = lab.box("peer", "n1"), lab.box("stranger", "n2")
    web.serve(80)
    assert peer.fetch(web.address, 80) == "web sees 10.213.1.3"
    assert stranger.gets_nothing(web.address, 80)
    assert stranger.fetch("10.213.2.1", 28090).startswith("web")
    assert stranger.fetch("10.213.1.1", 28090).startswith("web")


def test_internal_network_leads_nowhere(lab: Lab) -> None:
    create(lab, "inner", "10.213.3.0/24", internal=True)
    create(lab, "outer", "10.213.4.0/24")
    inner = lab.box("inner-box", "inner", {"80/tcp": [PortBinding(host_port="28091")]})
    peer = lab.box("peer", "inner")
    outer = lab.box("outer-box", "outer", {"80/tcp": [PortBinding(host_port="28092")]})
    for box in (inner, outer):
        box.serve(80)
    assert inner.sandbox is not None and inner.sandbox.ports == {"80/tcp": None}
    assert inner.sandbox.endpoints["inner"].gateway == ""
    assert inner.default_route() == ""
    assert peer.fetch(inner.address, 80).startswith("inner-box")
    assert fetch(inner.address, 80).startswith("inner-box")
    assert gets_nothing("127.0.0.1", 28091)
    assert outer.gets_nothing(inner.address, 80)
    assert inner.gets_nothing("10.213.3.1", 28092)


def test_neighbours_without_icc_are_strangers(lab: Lab) -> None:
    options = {"com.docker.network.bridge.enable_icc": "false"}
    create(lab, "quiet", "10.213.5.0/24", options=options)
    one, two = lab.box("one", "quiet"), lab.box("two", "quiet")
    one.serve(80)
    assert two.gets_nothing(one.address, 80)
    assert fetch(one.address, 80).startswith("one")


def test_default_route_goes_by_priority(lab: Lab) -> None:
    create(lab, "n1", "10.213.1.0/24")
    create(lab, "n2", "10.213.2.0/24")
    both = {"n1": EndpointSettings(), "n2": EndpointSettings()}
    assert lab.box("plain", "n2", endpoints=both).default_route() == "10.213.1.1 eth1"
    both["n2"] = EndpointSettings(gw_priority=5)
    assert lab.box("preferred", "n1", endpoints=both).default_route() == "10.213.2.1 eth1"


def test_join_and_leave_while_running(lab: Lab) -> None:
    create(lab, "n1", "10.213.1.0/24")
    create(lab, "n2", "10.213.2.0/24")
    web = lab.box("web", "n1", {"80/tcp": [PortBinding(host_port="28093")]})
    peer = lab.box("peer", "n2")
    web.serve(80)
    hosts = Path(lab.containers["web"].hosts_path)
    hosts.write_text(hosts.read_text() + "5.5.5.5\tfive\n")

    static = EndpointSettings(ipam_config=EndpointIPAMConfig(ipv4_address="10.213.2.50"), aliases=["www"])
    lab.run(lab.controller.connect("n2", ConnectRequest(container="web", endpoint_config=static)))
    assert web.links() == ["eth0", "eth1", "lo"]
    assert peer.fetch("10.213.2.50", 80).startswith("web")
    assert hosts.read_text().endswith("5.5.5.5\tfive\n10.213.2.50\tweb\n")
    assert lab.containers["web"].endpoints["n2"].dns_names == ["web", "www", web.id[:12]]

    lab.run(lab.controller.disconnect("n1", DisconnectRequest(container="web")))
    assert web.links() == ["eth1", "lo"]
    assert web.default_route() == "10.213.2.1 eth1"
    assert fetch("127.0.0.1", 28093).startswith("web")  # the port leads through the other network now
    assert "10.213.1.2" not in hosts.read_text()

    lab.run(lab.controller.disconnect("n2", DisconnectRequest(container="web")))
    assert web.links() == ["lo"]
    assert gets_nothing("127.0.0.1", 28093)
    lab.run(lab.controller.connect("n1", ConnectRequest(container="web")))
    assert web.links() == ["eth0", "lo"]
    assert fetch("127.0.0.1", 28093).startswith("web")


def test_refused_connections_change_nothing(lab: Lab) -> None:
    create(lab, "n1", "10.213.1.0/24")
    box = lab.box("box", "n1")
    controller = lab.controller

    def refused(kind: type[Exception], network: str, container: str, **settings: object) -> str:
        request = ConnectRequest(container=container, endpoint_config=EndpointSettings(**settings))
        with pytest.raises(kind) as raised:
            lab.run(controller.connect(network, request))
        return str(raised.value)

    assert refused(Forbidden, "n1", "box") == "endpoint with name box already exists in network n1"
    assert refused(NotFound, "missing", "box") == "network missing not found"
    assert refused(NotFound, "n1", "missing") == "No such container: missing"
    assert refused(InvalidParameter, "n1", "") == 'invalid name or ID supplied: ""'
    assert refused(InvalidParameter, "host", "box").startswith("cannot connect container to host network")
    assert refused(InvalidParameter, "none", "box").startswith("container cannot be connected to multiple")
    assert "network-scoped aliases" in refused(InvalidParameter, "bridge", "box", aliases=["x"])
    taken = EndpointIPAMConfig(ipv4_address="10.211.0.9")
    assert "user-defined networks only" in refused(InvalidParameter, "bridge", "box", ipam_config=taken)
    with pytest.raises(SystemError_, match="is not connected to network bridge"):
        lab.run(controller.disconnect("bridge", DisconnectRequest(container="box")))
    assert box.links() == ["eth0", "lo"]


def test_network_in_use_stays(lab: Lab) -> None:
    network_id = create(lab, "n1", "10.213.1.0/24")
    with pytest.raises(Conflict, match="network with name n1 already exists"):
        create(lab, "n1", "10.213.9.0/24")
    with pytest.raises(Forbidden, match="Pool overlaps with other one on this address space"):
        create(lab, "n2", "10.213.1.128/25")
    box = lab.box("box", network_id[:12])
    with pytest.raises(Forbidden, match=r'network n1 has active endpoints \(name:"box" id:"[0-9a-f]{12}"\)'):
        lab.run(lab.controller.remove("n1"))
    assert lab.run(lab.controller.prune({})).networks_deleted is None
    lab.run(lab.controller.detach(box.id))
    assert lab.run(lab.controller.prune({})).networks_deleted == ["n1"]
    with pytest.raises(NotFound):
        lab.controller.inspect("n1")


def test_events_of_a_network(lab: Lab) -> None:
    create(lab, "n1", "10.213.1.0/24")
    box = lab.box("box", "n1")
    lab.run(lab.controller.detach(box.id))
    lab.run(lab.controller.remove("n1"))
    found = [(one.event.action, one.event.actor.attributes) for one in lab.events]
    member = {"container": box.id, "name": "n1", "type": "bridge"}
    plain = {"name": "n1", "type": "bridge"}
    assert found == [("create", plain), ("connect", member), ("disconnect", member), ("destroy", plain)]


class Verbs:
    """A router that keeps the handlers, to call them by hand."""

    def __init__(self) -> None:
        self.handlers: dict[str, Any] = {}

    def add(self, verb: Any, handler: Any) -> None:
        self.handlers[verb.name] = handler


def test_a_request_that_comes_again_finds_its_work_done(lab: Lab) -> None:
    router = Verbs()
    register(cast("Any", router), lab.controller)
    lab.box("web")

    def call(verb: Any, args: object, attempt: int, request_id: str = "r") -> Any:
        context = Context(request_id, attempt, lambda: asyncio.sleep(0, []))
        return lab.run(router.handlers[verb.name](args, context))

    wanted = NetworkCreateRequest(name="again")
    made = call(verbs.CREATE, wanted, 1).id
    assert call(verbs.CREATE, wanted, 2).id == made
    with pytest.raises(Conflict):
        call(verbs.CREATE, wanted, 2, "another request")
    steps = [
        (verbs.CONNECT, verbs.ConnectArgs(ref=made, request=ConnectRequest(container="web")), Forbidden),
        (
            verbs.DISCONNECT,
            verbs.DisconnectArgs(ref=made, request=DisconnectRequest(container="web")),
            SystemError_,
        ),
        (verbs.REMOVE, Ref(ref=made), NotFound),
    ]
    for verb, args, error in steps:
        call(verb, args, 1)
        call(verb, args, 2)
        with pytest.raises(error):
            call(verb, args, 1)
