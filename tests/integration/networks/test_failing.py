"""What the kernel refuses: all else is given back, and the next one who asks gets it."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path

import pytest

from services.engine.networks import connect
from services.engine.networks.kernel import Kernel
from services.engine.networks.netlink import NetlinkError
from services.protocol.api.containers import PortBinding
from services.protocol.api.networks import (
    IPAM,
    ConnectRequest,
    EndpointIPAMConfig,
    EndpointSettings,
    IPAMConfig,
    NetworkCreateRequest,
)
from services.protocol.errors import NotFound, SystemError_
from tests.integration.networks.conftest import Lab, fetch
from tests.integration.networks.test_bridge import host_links

_STATIC = EndpointSettings(ipam_config=EndpointIPAMConfig(ipv4_address="10.215.1.9"))


def _create(lab: Lab) -> str:
    ipam = IPAM(config=[IPAMConfig(subnet="10.215.1.0/24")])
    return lab.run(lab.controller.create(NetworkCreateRequest(name="n", ipam=ipam))).id


def _refuse(*_: object, **__: object) -> None:
    raise NetlinkError(errno.EBUSY, "busy")


def _fail(*_: object, **__: object) -> None:
    raise SystemError_("failed")


def test_a_connect_that_fails_and_cannot_be_undone(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its address is free, and its link is removed by and by."""
    _create(lab)
    box, other = lab.box("box"), lab.box("other")
    with monkeypatch.context() as patch:
        patch.setattr(lab.controller._kernel.links, "delete", _refuse)
        patch.setattr(connect.namespace, "configure", _fail)
        with pytest.raises(SystemError_, match="failed"):
            lab.run(lab.controller.connect("n", ConnectRequest(container="box", endpoint_config=_STATIC)))
    lab.controller._kernel._removals.submit(lambda: None).result()
    assert box.links() == ["eth0", "lo"]
    assert not lab.controller.inspect("n").containers
    lab.run(lab.controller.connect("n", ConnectRequest(container="other", endpoint_config=_STATIC)))
    assert other.links() == ["eth0", "eth1", "lo"]


def test_the_end_of_a_container_whose_rules_stay(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    ports = {"80/tcp": [PortBinding(host_port="28120")]}
    box = lab.box("box", ports=ports)
    with monkeypatch.context() as patch:
        patch.setattr(Kernel, "change_ports", _refuse)
        with pytest.raises(NetlinkError):
            lab.run(lab.controller.detach(box.id))
    again = lab.box("again", ports=ports)
    assert again.address == box.address
    assert again.sandbox is not None
    assert {one.host_port for one in again.sandbox.ports["80/tcp"] or []} == {"28120"}


def test_a_network_whose_bridge_stays(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is there as before, and can be used, until its removal succeeds."""
    bridge = f"br-{_create(lab)[:12]}"
    with monkeypatch.context() as patch:
        patch.setattr(lab.controller._kernel.links, "delete", _refuse)
        with pytest.raises(SystemError_, match="failed to remove bridge"):
            lab.run(lab.controller.remove("n"))
    web = lab.box("web", "n", {"80/tcp": [PortBinding(host_port="28121")]})
    web.serve(80)
    assert fetch("127.0.0.1", 28121).startswith("web")
    lab.run(lab.controller.detach(web.id))
    lab.run(lab.controller.remove("n"))
    assert bridge not in host_links()


def test_who_joins_a_network_that_is_going(lab: Lab) -> None:
    """One of them comes first; the other is told."""
    _create(lab)
    box = lab.box("box")

    async def both() -> list[object]:
        return await asyncio.gather(
            lab.controller.remove("n"),
            lab.controller.connect("n", ConnectRequest(container="box")),
            return_exceptions=True,
        )

    removed, joined = lab.run(both())
    assert removed is None
    assert isinstance(joined, NotFound)
    assert box.links() == ["eth0", "lo"]


def test_a_bridge_that_was_not_finished(lab: Lab) -> None:
    """An engine died between making it and setting it up."""
    setting = Path(f"/proc/sys/net/ipv6/conf/br-{_create(lab)[:12]}/disable_ipv6")
    if not setting.exists():
        pytest.skip("this kernel has no IPv6")
    setting.write_text("0")
    lab.restart()
    assert setting.read_text() == "1\n"
