"""After the engine's death: what runs keeps its network, what does not gives all back."""

from __future__ import annotations

import os

import pytest

from services.engine.networks.firewall import Firewall
from services.engine.networks.links import Links
from services.protocol.api.containers import PortBinding
from services.protocol.api.networks import NetworkCreateRequest
from services.protocol.errors import SystemError_
from tests.integration.networks.conftest import BRIDGE, Lab, fetch
from tests.integration.networks.test_bridge import host_links


def drop_table() -> None:
    """What ``nft flush ruleset`` or a firewall manager does."""
    firewall = Firewall(f"wharfd-{BRIDGE}")
    firewall.destroy()
    firewall.close()


def test_connections_go_on_and_reservations_are_known(lab: Lab) -> None:
    web = lab.box("web", ports={"80/tcp": [PortBinding(host_port="28100")]})
    web.serve(80)
    lab.restart()
    assert fetch("127.0.0.1", 28100).startswith("web")
    assert lab.box("next").address == "10.211.0.3"
    with pytest.raises(SystemError_, match="port is already allocated"):
        lab.box("thief", ports={"80/tcp": [PortBinding(host_port="28100")]})


def test_container_that_died_meanwhile_is_released(lab: Lab) -> None:
    lab.box("gone", ports={"80/tcp": [PortBinding(host_port="28101")]})
    lab.restart("gone")
    again = lab.box("again", ports={"80/tcp": [PortBinding(host_port="28101")]})
    assert again.address == "10.211.0.2"


def test_kernel_is_made_to_agree(lab: Lab) -> None:
    network = lab.run(lab.controller.create(NetworkCreateRequest(name="n1"))).id
    web = lab.box("web", "n1", {"80/tcp": [PortBinding(host_port="28102")]})
    web.serve(80)
    drop_table()
    links = Links()
    links.delete([f"br-{network[:12]}"])
    orphan = os.open("/proc/self/ns/net", os.O_RDONLY)
    links.create_veth(
        "vethorphan0", links.index(BRIDGE), "vethorphan1", "02:42:00:00:00:03", 0, orphan, isolated=False
    )
    os.close(orphan)
    links.close()
    lab.restart()
    assert fetch("127.0.0.1", 28102).startswith("web")
    lab.controller._kernel._removals.submit(lambda: None).result()  # the sweep is in the background
    assert not {"vethorphan0", "vethorphan1"} & host_links()


def test_flushed_ruleset_is_made_again_by_the_next_change(lab: Lab) -> None:
    web = lab.box("web", ports={"80/tcp": [PortBinding(host_port="28103")]})
    web.serve(80)
    drop_table()
    lab.box("other", ports={"80/tcp": [PortBinding(host_port="28104")]})
    assert fetch("127.0.0.1", 28103).startswith("web")


def test_bridge_removed_behind_the_daemons_back(lab: Lab) -> None:
    links = Links()
    links.delete([BRIDGE])
    links.close()
    box = lab.box("box")
    box.serve(80)
    assert fetch(box.address, 80).startswith("box")


def test_default_bridge_keeps_its_subnet(lab: Lab) -> None:
    before = lab.controller.inspect("bridge")
    lab.restart()
    after = lab.controller.inspect("bridge")
    assert (after.id, after.ipam) == (before.id, before.ipam)


def test_a_bridge_that_somebody_has_made_since_is_left_alone(lab: Lab) -> None:
    """As another engine does with ``docker0``, which it has by default as well."""
    links = Links()
    try:
        lab.stop()
        assert BRIDGE not in host_links()
        links.create_bridge(BRIDGE, "02:42:00:00:00:01", 1500)
        lab.boot()
        lab.stop()
        assert BRIDGE in host_links()
        links.delete([BRIDGE])
    finally:
        links.close()
        lab.boot()
    assert BRIDGE in host_links()
