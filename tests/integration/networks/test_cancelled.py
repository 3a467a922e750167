"""A cancelled change of networks: whole or nothing, in memory, in the database and in the kernel."""

from __future__ import annotations

import msgspec

from services.engine.networks.model import SandboxRecord
from services.protocol.api.containers import PortBinding
from services.protocol.api.networks import ConnectRequest, DisconnectRequest, NetworkCreateRequest
from tests.harness import SESSION
from tests.harness.cancelling import cancelled_everywhere
from tests.integration.networks.conftest import Lab, fetch

BRIDGE = f"whc{SESSION}"


def _rows(lab: Lab) -> set[str]:
    return {name for (name,) in lab._store.load("SELECT name FROM networks")}


def _known(lab: Lab) -> set[str]:
    return {one.name for one in lab.controller.list({})}


def _bridges(lab: Lab) -> int:
    links = lab.controller._kernel.links
    return sum(link.name.startswith(BRIDGE) for link in lab.run(lab.controller._kernel.run(links.links)))


def test_a_cancelled_create_leaves_nothing(lab: Lab) -> None:
    request = NetworkCreateRequest(name="n", options={"com.docker.network.bridge.name": BRIDGE})
    before = _rows(lab)

    async def body() -> list[bool]:
        runs = []
        async for cancelled in cancelled_everywhere(lambda: lab.controller.create(request)):
            runs.append(cancelled)
            made = set() if cancelled else {"n"}
            assert _known(lab) == _rows(lab) == before | made
            links = await lab.controller._kernel.run(lab.controller._kernel.links.links)
            assert [link.name for link in links if link.name.startswith(BRIDGE)] == [BRIDGE] * len(made)
            if not cancelled:
                await lab.controller.remove("n")
        return runs

    runs = lab.run(body())
    assert runs.count(True) >= 3


def test_a_cancelled_removal_is_done_or_not(lab: Lab) -> None:
    request = NetworkCreateRequest(name="n", options={"com.docker.network.bridge.name": BRIDGE})

    async def body() -> None:
        await lab.controller.create(request)
        async for _ in cancelled_everywhere(lambda: lab.controller.remove("n")):
            assert _known(lab) == _rows(lab)
            if "n" not in _known(lab):
                await lab.controller.create(request)
        if "n" in _known(lab):
            await lab.controller.remove("n")

    lab.run(body())
    assert _bridges(lab) == 0


def test_cancelled_joining_and_leaving(lab: Lab) -> None:
    box = lab.box("a", ports={"80/tcp": [PortBinding(host_port="28130")]})
    box.serve(80)
    name = "a-first"  # by name, so that the default route and the port lead through it
    lab.run(
        lab.controller.create(
            NetworkCreateRequest(name=name, options={"com.docker.network.bridge.name": BRIDGE})
        )
    )

    def agree() -> None:
        (row,) = lab._store.load("SELECT document FROM sandboxes WHERE container_id=?", box.id)
        on_disk = msgspec.json.decode(row[0], type=SandboxRecord)
        joined = [one.network_name for one in lab.controller._sandboxes.by_container[box.id].endpoints]
        assert [one.network_name for one in on_disk.endpoints] == joined
        assert list(lab.containers["a"].endpoints) == joined
        assert len(box.links()) == 1 + len(joined)
        assert box.default_route().endswith(f" eth{len(joined) - 1}")
        assert fetch("127.0.0.1", 28130).startswith("a sees")

    async def body() -> None:
        join, leave = ConnectRequest(container="a"), DisconnectRequest(container="a")
        async for _ in cancelled_everywhere(lambda: lab.controller.connect(name, join)):
            agree()
            if name in lab.containers["a"].endpoints:
                await lab.controller.disconnect(name, leave)
        await lab.controller.connect(name, join)
        async for _ in cancelled_everywhere(lambda: lab.controller.disconnect(name, leave)):
            agree()
            if name not in lab.containers["a"].endpoints:
                await lab.controller.connect(name, join)

    lab.run(body())
