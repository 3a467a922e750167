"""An engine that dies at any step of a connect or a disconnect: the next one makes all agree."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from services.engine.networks import connect, halfway, hostsfile
from services.engine.networks.model import SandboxRecord
from services.engine.networks.netlink import NetlinkSocket
from services.engine.networks.records import Records
from services.protocol.api.containers import PortBinding
from services.protocol.api.networks import (
    IPAM,
    ConnectRequest,
    DisconnectRequest,
    EndpointSettings,
    IPAMConfig,
    NetworkCreateRequest,
)
from tests.harness.dying import Steps
from tests.integration.networks.conftest import Box, Lab, fetch

#: The first by name is the way out: joining and leaving it changes the default route and the ports' target.
JOINED, GATEWAY = "a-joined", "10.214.1.1"


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    made = Steps(monkeypatch)
    made.watch(NetlinkSocket, "_send")
    made.watch(Records, "put_sandbox")
    made.watch(Lab, "set_endpoints")
    made.watch(hostsfile, "edit")
    return made


@pytest.fixture
def box(lab: Lab) -> Box:
    ipam = IPAM(config=[IPAMConfig(subnet="10.214.1.0/24")])
    lab.run(lab.controller.create(NetworkCreateRequest(name=JOINED, ipam=ipam)))
    made = lab.box("a", ports={"80/tcp": [PortBinding(host_port="28110")]})
    made.serve(80)
    return made


def _join(lab: Lab) -> None:
    settings = EndpointSettings(aliases=["other"])
    lab.run(lab.controller.connect(JOINED, ConnectRequest(container="a", endpoint_config=settings)))


def _leave(lab: Lab) -> None:
    lab.run(lab.controller.disconnect(JOINED, DisconnectRequest(container="a")))


def _check(lab: Lab, box: Box) -> bool:
    """Whether it is in the network: all say the same, and its port is reached."""
    told = lab.containers["a"].endpoints
    (row,) = lab._store.load("SELECT document FROM sandboxes WHERE container_id=?", box.id)
    assert {one.id for one in msgspec.json.decode(row[0], type=SandboxRecord).endpoints} == {
        one.endpoint_id for one in told.values()
    }
    shown = lab.controller.inspect(JOINED).containers
    joined = JOINED in told
    assert set(shown) == ({box.id} if joined else set())
    assert len(box.links()) == 2 + joined
    assert box.default_route() == (f"{GATEWAY} eth1" if joined else "10.211.0.1 eth0")
    lines = Path(lab.containers["a"].hosts_path).read_text().splitlines()
    assert [line for line in lines if line.endswith("\ta")] == [
        f"{one.ip_address}\ta" for one in told.values()
    ]
    assert fetch("127.0.0.1", 28110).startswith("a sees")
    return joined


def _die_everywhere(lab: Lab, box: Box, steps: Steps, change: Callable[[Lab], None], *, joined: bool) -> int:
    """*change*, after which it is in the network or not, ended at each step; how many steps there are."""
    number = 1
    while steps.die_at(number, lambda: change(lab)):
        lab.restart()
        if _check(lab, box) == joined:  # it was done but for the answer
            (_leave if joined else _join)(lab)
        number += 1
    assert _check(lab, box) == joined
    return number - 1


def test_a_connect_that_is_cut_short_is_taken_back(lab: Lab, box: Box, steps: Steps) -> None:
    assert _die_everywhere(lab, box, steps, _join, joined=True) >= 8


def test_a_disconnect_that_is_cut_short_is_carried_out(lab: Lab, box: Box, steps: Steps) -> None:
    _join(lab)
    assert _die_everywhere(lab, box, steps, _leave, joined=False) >= 5


@pytest.mark.parametrize("change", [_join, _leave], ids=["connect", "disconnect"])
def test_an_end_at_each_step_of_the_recovery(
    lab: Lab, box: Box, steps: Steps, change: Callable[[Lab], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the engine was doing when it died is known until all of it is done."""
    number = 1
    dies_again = True
    while dies_again:
        if change is _leave:
            _join(lab)
        with monkeypatch.context() as patch:  # everything but the containers' row
            patch.setattr(connect.Connector, "_tell", _untold)
            change(lab)
        lab.forget()
        dies_again = steps.die_at(number, lab.boot_again)
        if dies_again:
            lab.forget()
            lab.boot_again()
        assert not _check(lab, box)
        number += 1
    assert number > 10


async def _untold(*_: object) -> None:
    """The engine's last step, which was not taken."""


def test_a_name_that_the_networks_have_not_been_told(lab: Lab, box: Box) -> None:
    lab.containers["a"] = msgspec.structs.replace(lab.containers["a"], name="renamed")
    lab.restart()
    (row,) = lab._store.load("SELECT document FROM sandboxes WHERE container_id=?", box.id)
    assert msgspec.json.decode(row[0], type=SandboxRecord).container_name == "renamed"


def test_nothing_is_done_where_nothing_was_cut_short(
    lab: Lab, box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    _join(lab)
    found: list[object] = []
    settle = halfway.Halfway.settle

    async def watched(self: halfway.Halfway) -> None:
        found.extend(self._found)
        await settle(self)

    monkeypatch.setattr(halfway.Halfway, "settle", watched)
    lab.restart()
    assert not found
    assert _check(lab, box)
