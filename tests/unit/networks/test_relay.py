"""The engine's side of ``docker-proxy``: when it lacks a zygote, and when a port is free again."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from pathlib import Path
from typing import BinaryIO

import pytest

from reexec.helpers.proxy import Proxy
from services.engine.networks import relay as relays
from services.engine.networks.firewall import PortRule
from services.engine.networks.ports import HostPorts, PortRequest
from services.engine.networks.relay import Relay
from services.protocol import fdpass
from services.protocol.helpers import HelperRequest
from services.protocol.paths import ExecRoot

#: Ports that the kernel gives to nobody by itself.
_RANGE = (29000, 29999)


def _publish(ports: HostPorts, protocol: str, number: int = 0) -> PortRule:
    (port,) = ports.reserve(PortRequest(protocol, 7, "::1", (number, number) if number else _RANGE))
    return PortRule(port.protocol, port.host_ip, port.host_port, "127.0.0.1", 7)


def _fork(zygote: socket.socket) -> threading.Thread:
    """What the zygote does with one request, in a thread."""

    def serve() -> None:
        connection, _ = zygote.accept()
        with connection:
            _, fds = fdpass.receive(connection, HelperRequest)
        Proxy(socket.socket(fileno=fds[0]), socket.socket(fileno=fds[1])).serve()

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_port_that_is_given_back_can_be_bound_at_once(tmp_path: Path, protocol: str) -> None:
    ports, root = HostPorts(), ExecRoot(tmp_path)
    relay = Relay(root, ports)
    with fdpass.listen(root.zygote) as zygote:
        helper = _fork(zygote)
        rule = _publish(ports, protocol)
        for _ in range(50):
            relay.change([], [rule])
            relay.change([rule], [])
            ports.close()
            rule = _publish(ports, protocol, rule.host_port)
    ports.close()
    relay.close()
    helper.join(60)
    assert not helper.is_alive()


def test_a_helper_that_stood_still_is_waited_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ports that it gives back later are not free when the next container asks for them."""
    monkeypatch.setattr(relays, "_GIVEN_BACK", 0.01)
    ports, root = HostPorts(), ExecRoot(tmp_path)
    relay = Relay(root, ports)
    rule = _publish(ports, "tcp")
    waited: list[float] = []
    is_readable = relays._is_readable

    def watched(pipe: BinaryIO, seconds: float) -> bool:
        waited.append(seconds)
        return is_readable(pipe, seconds)

    with fdpass.listen(root.zygote) as zygote:
        relay.change([], [rule])
        connection, _ = zygote.accept()
        with connection:
            _, (control, listener) = fdpass.receive(connection, HelperRequest)
    with socket.socket(fileno=control) as helper, socket.socket(fileno=listener):
        relay.change([rule], [])  # it stands still
        monkeypatch.setattr(relays, "_is_readable", watched)
        relay.change([], [rule])
        relay.change([rule], [])
        assert waited == [0]
        for _ in range(4):
            _, fds = fdpass.receive_raw(helper)
            for fd in fds:
                os.close(fd)
        relay.change([], [rule])
        relay.change([rule], [])
        assert waited == [0, 0, 0.01]
    relay.close()
    ports.close()


def test_a_zygote_that_is_away_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its death may fall together with a container's start; nothing else would ask again."""
    monkeypatch.setattr(relays, "_AGAIN", 0.01)
    ports, root = HostPorts(), ExecRoot(tmp_path)
    relay = Relay(root, ports)
    rule = _publish(ports, "tcp")

    async def body() -> None:
        relay.watch(asyncio.get_running_loop(), lambda function: function())
        relay.change([], [rule])
        with fdpass.listen(root.zygote) as zygote:
            zygote.setblocking(False)
            connection, _ = await asyncio.wait_for(asyncio.get_running_loop().sock_accept(zygote), 60)
            with connection:
                request, fds = fdpass.receive(connection, HelperRequest)
            assert request.argv[0] == "docker-proxy"
            for fd in fds:
                socket.socket(fileno=fd).close()
        relay.change([rule], [])

    asyncio.run(body())
    relay.close()
    ports.close()
