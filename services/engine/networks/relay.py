"""The engine's side of ``docker-proxy``: one helper, told of the ports it serves.

It is forked by the zygote when there is a first port for it. It outlives the engine, as the
containers do, and the next engine takes it over with its sockets. If it dies, another one takes over
with the same sockets, which the engine keeps.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import select
import socket
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import BinaryIO

import msgspec

from services.engine.networks.firewall import PortRule
from services.engine.networks.ports import HostPorts
from services.protocol import fdpass
from services.protocol.errors import WharfError
from services.protocol.helpers import HelperRequest
from services.protocol.paths import ExecRoot
from services.protocol.relay import RelayAdd, RelayReady, RelayRemove, RelayState

log = logging.getLogger(__name__)

#: Seconds that a helper has to tell of its ports.
_PATIENCE = 20.0
#: Seconds that it has to give ports back, while the network thread waits.
_GIVEN_BACK = 5.0
#: Seconds after which another helper is asked for when there is no zygote to fork it.
_AGAIN = 1.0
_decode = msgspec.msgpack.Decoder(RelayState).decode


class Relay:
    """Used in the network thread, by which the loop has it know of the helper's death."""

    def __init__(self, exec_root: ExecRoot, ports: HostPorts) -> None:
        self._exec_root = exec_root
        self._host_ports = ports
        self._rules: set[PortRule] = set()
        #: What the helper served before this engine, by key.
        self._adopted: dict[str, RelayAdd] = {}
        self._control: socket.socket | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._submit: Callable[[Callable[[], None]], object] = lambda _: None
        #: The helper that has not told yet that it gave ports back, and the pipe by which it does.
        self._unheard: tuple[socket.socket, BinaryIO] | None = None

    def watch(self, loop: asyncio.AbstractEventLoop, submit: Callable[[Callable[[], None]], object]) -> None:
        """The loop that notices the helper's death, and what it has done in the network thread then."""
        self._loop = loop
        self._submit = submit

    def adopt(self) -> None:
        """Take over the helper of an engine before this one; then :meth:`change`, then :meth:`settle`."""
        try:
            control = fdpass.connect(self._exec_root.relay)
        except WharfError:
            return
        try:
            control.settimeout(_PATIENCE)
            for message, sock in _served(control):
                self._adopted[message.key] = message
                self._host_ports.adopt(*_unkey(message.key), sock)
        except (OSError, WharfError, msgspec.MsgspecError) as error:
            log.warning("docker-proxy of the engine before cannot be taken over: %s", error)
            control.close()
            self._adopted.clear()
            return
        control.settimeout(None)
        self._use(control)

    def settle(self) -> None:
        """What was adopted and is nobody's any more is not served any more."""
        if self._control is not None:
            with contextlib.suppress(OSError):
                self._remove(self._control, self._adopted)
        self._adopted.clear()
        self._host_ports.drop_adopted()

    def change(self, remove: Iterable[PortRule], add: Iterable[PortRule]) -> None:
        gone = set(remove) & self._rules
        new = set(add) - (self._rules - gone)
        self._rules = (self._rules - gone) | new
        try:
            if self._control is None:
                if self._rules:
                    self._start()
                return
            self._remove(self._control, [_key(rule) for rule in gone - new])
            for rule in new:
                self._add(self._control, rule)
        except (OSError, WharfError) as error:
            log.warning("docker-proxy does not listen (%s); another one is started", error)
            self._restart()

    def close(self) -> None:
        """The helper ends if it has no ports; those of containers that live on are served on."""
        self._drop()
        if self._unheard is not None:
            self._unheard[1].close()
            self._unheard = None

    def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        request = HelperRequest(
            ["docker-proxy", str(self._exec_root.relay)], ["control", "listener"], lasting=True
        )
        try:
            with (
                theirs,
                fdpass.listen(self._exec_root.relay) as listener,
                fdpass.connect(self._exec_root.zygote) as connection,
            ):
                fdpass.send(connection, request, [theirs.fileno(), listener.fileno()])
        except BaseException:
            ours.close()
            raise
        self._use(ours)
        for rule in self._rules:
            self._add(ours, rule)

    def _use(self, control: socket.socket) -> None:
        self._control = control
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._loop.add_reader, control.fileno(), self._ended, control)

    def _add(self, control: socket.socket, rule: PortRule) -> None:
        held = self._host_ports.held(rule.protocol, rule.host_ip, rule.host_port)
        if held is None:
            return  # another program took it while the engine was away; that is in the log
        message = RelayAdd(_key(rule), rule.protocol, rule.container_ip, rule.container_port)
        if self._adopted.pop(message.key, None) == message:
            return  # it is served, and its connections are to stay
        fdpass.send(control, message, [held.fileno()])

    def _remove(self, control: socket.socket, keys: Collection[str]) -> None:
        """When this returns the helper has closed their sockets, and the ports can be bound again."""
        if not keys:
            return
        freed, held = os.pipe2(os.O_CLOEXEC)
        with contextlib.ExitStack() as stack:
            told = stack.enter_context(open(freed, "rb", buffering=0))
            with open(held, "wb", buffering=0):
                for key in keys:
                    fdpass.send(control, RelayRemove(key), [held])
            if not self._is_silent(control) and not _is_readable(told, _GIVEN_BACK):
                stack.pop_all()
                self._unheard = control, told
                log.warning("docker-proxy has not given ports back within %g s", _GIVEN_BACK)

    def _is_silent(self, control: socket.socket) -> bool:
        """Whether it owes an answer: one that an older version has started never tells, and is not waited
        for again; one that had stood still has told since."""
        if self._unheard is None:
            return False
        asked, told = self._unheard
        if asked is control and not _is_readable(told, 0):
            return True
        told.close()
        self._unheard = None
        return False

    def _ended(self, control: socket.socket) -> None:
        """On the loop: the helper's side of the connection says something, which is its end."""
        if self._loop is not None and control.fileno() >= 0:
            self._loop.remove_reader(control.fileno())
            with contextlib.suppress(RuntimeError):  # the thread has ended, and so does all of this
                self._submit(functools.partial(self._lost, control))

    def _lost(self, control: socket.socket) -> None:
        if control is not self._control:
            return
        if self._rules:
            log.warning("docker-proxy ended; another one is started")
            self._restart()
        else:
            self._drop()

    def _again(self) -> None:
        """On the loop."""
        with contextlib.suppress(RuntimeError):
            self._submit(lambda: self._restart() if self._control is None and self._rules else None)

    def _restart(self) -> None:
        self._drop()
        try:
            self._start()
        except (OSError, WharfError) as error:
            log.error("published ports are not reached by IPv6: docker-proxy cannot be started: %s", error)
            self._drop()
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._loop.call_later, _AGAIN, self._again)

    def _drop(self) -> None:
        control, self._control = self._control, None
        if control is None:
            return
        if self._loop is None or self._loop.is_closed():
            control.close()
        else:
            self._loop.call_soon_threadsafe(_forget, self._loop, control)


def _forget(loop: asyncio.AbstractEventLoop, control: socket.socket) -> None:
    loop.remove_reader(control.fileno())
    control.close()


def _is_readable(pipe: BinaryIO, seconds: float) -> bool:
    """At once or within the time; select(2) knows no descriptors above 1023."""
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def retire(exec_root: ExecRoot) -> None:
    """End the helper of an engine before this one: nothing is relayed any more."""
    try:
        control = fdpass.connect(exec_root.relay)
    except WharfError:
        return
    with control:
        control.settimeout(_PATIENCE)
        try:
            keys = []
            for message, sock in _served(control):
                sock.close()
                keys.append(message.key)
            for key in keys:
                fdpass.send(control, RelayRemove(key))
            control.shutdown(socket.SHUT_WR)
            fdpass.receive_raw(control)  # its end: the ports are free
        except (OSError, WharfError, msgspec.MsgspecError) as error:
            log.warning("docker-proxy of the engine before cannot be ended: %s", error)


def _served(control: socket.socket) -> Iterator[tuple[RelayAdd, socket.socket]]:
    """What the helper at the other end of a new connection serves."""
    while True:
        data, fds = fdpass.receive_raw(control)
        message = _decode(data)
        if isinstance(message, RelayReady):
            return
        yield message, socket.socket(fileno=fds[0])


def _key(rule: PortRule) -> str:
    return f"{rule.protocol} {rule.host_ip} {rule.host_port}"


def _unkey(key: str) -> tuple[str, str, int]:
    protocol, host_ip, number = key.split(" ")
    return protocol, host_ip, int(number)
