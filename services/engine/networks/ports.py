"""Host ports: which a container asks for, which it gets, and the sockets that hold them.

A port is really bound, so that it cannot be given away behind the engine's back, nor taken from
a program that has it. IPv4 packets never reach these sockets, for the firewall turns them before;
the sockets of the others are served by ``docker-proxy``.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from services.protocol.api.containers import PortBinding
from services.protocol.errors import InvalidParameter, SystemError_, Unimplemented, WharfError

log = logging.getLogger(__name__)

_PORT_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_NUMBERS = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?")
ANY4, ANY6 = "0.0.0.0", "::"


class PortRequest(msgspec.Struct, frozen=True):
    """``host_ports`` (first, last); (0, 0) is any free one. ``host_ip`` empty is every address."""

    protocol: str
    container_port: int
    host_ip: str
    host_ports: tuple[int, int]


class PublishedPort(msgspec.Struct, frozen=True):
    """A host port in use; one per address family."""

    protocol: str
    container_port: int
    host_ip: str
    host_port: int


def parse_range(text: str) -> tuple[int, int]:
    """``"80"``, ``"80-90"`` or ``""`` (0, 0); raises ``InvalidParameter``."""
    if text in ("", "0"):
        return (0, 0)
    match = _NUMBERS.fullmatch(text)
    if match:
        first = int(match[1])
        last = int(match[2] or match[1])
        if 0 < first <= last <= 65535:
            return (first, last)
    raise InvalidParameter(f'invalid port specification: "{text}"')


def split_port(text: str) -> tuple[int, str]:
    """``"80/tcp"`` or ``"80"`` as (80, "tcp"); port 0 can be exposed, if not published."""
    number, _, protocol = text.partition("/")
    if not number.isdigit() or not 0 <= int(number) <= 65535:
        raise InvalidParameter(f'invalid port specification: "{text}"')
    return int(number), (protocol or "tcp").lower()


def port_requests(
    exposed: Sequence[str], bindings: Mapping[str, Sequence[PortBinding]], publish_all: bool
) -> list[PortRequest]:
    """What a container asks to be published, in the order of port and protocol."""
    wanted: list[PortRequest] = []
    names = {split_port(name): name for name in bindings}
    if publish_all:
        for name in exposed:
            names.setdefault(split_port(name), "")
    for number, protocol in sorted(names):
        given = bindings.get(names[number, protocol]) or (
            [PortBinding()] if publish_all or names[number, protocol] else []
        )
        for binding in given:
            host = parse_range(binding.host_port)
            wanted.append(PortRequest(protocol, number, binding.host_ip, host))
    return wanted


def describe(
    exposed: Sequence[str], published: Sequence[PublishedPort]
) -> dict[str, list[PortBinding] | None]:
    """``NetworkSettings.Ports``: exposed ports that are not published have no bindings."""
    ports: dict[str, list[PortBinding] | None] = {}
    for name in exposed:
        number, protocol = split_port(name)
        ports[f"{number}/{protocol}"] = None
    for port in published:
        name = f"{port.container_port}/{port.protocol}"
        bindings = ports.get(name) or []
        bindings.append(PortBinding(host_ip=port.host_ip, host_port=str(port.host_port)))
        ports[name] = bindings
    return ports


@dataclass
class _Held:
    """One protocol's port on the addresses that hold it."""

    sockets: dict[str, socket.socket] = field(default_factory=dict)


class HostPorts:
    """All ports this daemon publishes; called on the event loop (a bind takes microseconds)."""

    def __init__(self, *, listen: bool = True, relayed: bool = True) -> None:
        #: Listening keeps others from sharing the address (SO_REUSEADDR); where neither firewall
        #: nor relay takes the connections it would accept what nobody serves.
        self._listen = listen
        #: Somebody carries what arrives by IPv6 to containers, which have IPv4.
        self._relayed = relayed
        self._ipv6 = relayed and Path("/proc/net/if_inet6").exists()
        self._held: dict[tuple[str, int], _Held] = {}
        self._adopted: dict[tuple[str, str, int], socket.socket] = {}
        self._ephemeral = _ephemeral_ports()

    def reserve(self, request: PortRequest) -> list[PublishedPort]:
        """Bind; raises ``SystemError_`` with Docker's texts (without what they are about).

        An address that nobody serves gets no port, which is no error (dockerd says so in its log).
        """
        if request.protocol not in ("tcp", "udp"):
            raise self._unknown(request)
        if not self.serves(request.host_ip):
            log.warning(
                "port %s is not published on %s: --userland-proxy is off",
                request.container_port,
                request.host_ip,
            )
            return []
        hosts = self._hosts(request.host_ip)
        first, last = request.host_ports
        failure: SystemError_ | None = None
        for number in self._ephemeral() if not first else range(first, last + 1):
            try:
                self._bind(hosts, request.protocol, number)
            except SystemError_ as error:
                failure = error
                if first == last and first:
                    raise
                if isinstance(error.__cause__, OSError) and error.__cause__.errno != errno.EADDRINUSE:
                    raise
                continue
            return [PublishedPort(request.protocol, request.container_port, host, number) for host in hosts]
        raise failure or SystemError_("all ports are allocated")

    def _unknown(self, request: PortRequest) -> WharfError:
        """SCTP: most kernels cannot have it, and say so."""
        number = request.host_ports[0] or next(iter(self._ephemeral()))
        shown = f"{request.host_ip or ANY4}:{number}/{request.protocol}"
        try:
            sctp_socket().close()
        except OSError as error:
            reason = os.strerror(error.errno or 0).lower()
            return SystemError_(f"failed to create socket for {shown}: {reason}")
        return Unimplemented(f"publishing {request.protocol} ports is not implemented")

    def serves(self, host_ip: str) -> bool:
        """Whether what arrives at *host_ip* gets to a container."""
        return self._relayed or ":" not in host_ip

    def adopt(self, protocol: str, host_ip: str, number: int, sock: socket.socket) -> None:
        """*sock* holds this port already: take it when the port is restored."""
        self._adopted[protocol, host_ip, number] = sock

    def drop_adopted(self) -> None:
        """Those that were not restored."""
        while self._adopted:
            self._adopted.popitem()[1].close()

    def restore(self, port: PublishedPort) -> None:
        """Take a port again after a restart; raises ``SystemError_`` if another program has it."""
        self._bind([port.host_ip], port.protocol, port.host_port)

    def release(self, ports: Sequence[PublishedPort]) -> None:
        for port in ports:
            held = self._held.get((port.protocol, port.host_port))
            if held is None:
                continue
            if (sock := held.sockets.pop(port.host_ip, None)) is not None:
                sock.close()
            if not held.sockets:
                del self._held[port.protocol, port.host_port]

    def held(self, protocol: str, host_ip: str, number: int) -> socket.socket | None:
        """The socket that holds a port."""
        found = self._held.get((protocol, number))
        return found.sockets.get(host_ip) if found else None

    def close(self) -> None:
        for held in self._held.values():
            for sock in held.sockets.values():
                sock.close()
        self._held.clear()
        self.drop_adopted()

    def _hosts(self, host_ip: str) -> list[str]:
        if host_ip:
            return [host_ip]
        return [ANY4, ANY6] if self._ipv6 else [ANY4]

    def _bind(self, hosts: Sequence[str], protocol: str, number: int) -> None:
        held = self._held.get((protocol, number), _Held())
        for host in hosts:
            for other in held.sockets:
                if other == host or {other, host} & {_wildcard(host)} and _wildcard(host) == _wildcard(other):
                    raise SystemError_(f"Bind for {other}:{number} failed: port is already allocated")
        sockets: dict[str, socket.socket] = {}
        try:
            for host in hosts:
                adopted = self._adopted.pop((protocol, host, number), None)
                sockets[host] = adopted or _open(host, protocol, number, self._listen)
        except OSError as error:
            for sock in sockets.values():
                sock.close()
            shown = f"[{host}]" if ":" in host else host
            reason = os.strerror(error.errno or 0)
            text = f"failed to bind host port {shown}:{number}/{protocol}: {reason.lower()}"
            raise SystemError_(text) from error
        held.sockets.update(sockets)
        self._held[protocol, number] = held


def sctp_socket() -> socket.socket:
    return socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP)


def _wildcard(host: str) -> str:
    return ANY6 if ":" in host else ANY4


def _open(host: str, protocol: str, number: int, listen: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    sock = socket.socket(family, kind | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if protocol == "tcp" and listen:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # past connections may linger
            sock.bind((host, number))
            sock.listen(1)
        else:
            sock.bind((host, number))
    except OSError:
        sock.close()
        raise
    return sock


def _ephemeral_ports() -> Callable[[], Iterator[int]]:
    """A function giving each port of the kernel's ephemeral range once, from where it last was."""
    try:
        first, last = (int(word) for word in _PORT_RANGE.read_text().split())
    except (OSError, ValueError):
        first, last = 32768, 60999
    place = first

    def numbers() -> Iterator[int]:
        nonlocal place
        for _ in range(last - first + 1):
            number, place = place, place + 1 if place < last else first
            yield number

    return numbers
