"""One sandbox's DNS server: sockets inside its namespace, served from the engine's event loop.

The server has a port of its own, and a rule inside the namespace turns 127.0.0.11:53 to it: a
container may run a DNS server on port 53 itself. When the engine dies the sockets go with it; the
restore makes new ones, with a new port and rule.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import logging
import socket
import struct

from services.engine.networks import conntrack
from services.engine.networks import nftables as nft
from services.engine.networks.dns import message
from services.engine.networks.dns.forward import Forwarder, ask_by_tcp, is_loopback
from services.engine.networks.dns.names import Names
from services.engine.networks.etcfiles import EMBEDDED_SERVER
from services.engine.networks.firewall import PortRule
from services.engine.networks.model import SandboxRecord
from services.engine.networks.namespace import inside
from services.engine.networks.netlink import Message, NetlinkError, NetlinkSocket
from services.engine.scopes import Background

log = logging.getLogger(__name__)

_IP_FREEBIND = 15
_TABLE = "wharfd-dns"
_DSTNAT = -100
#: Seconds an idle TCP client is kept.
_IDLE = 10.0
_QUERY_MAX = 4096


class Sockets:
    """Made in one go inside a namespace: UDP and TCP server on the same port, one to forward."""

    def __init__(self) -> None:
        self.udp = _bound(socket.SOCK_DGRAM, 0)
        try:
            self.port: int = self.udp.getsockname()[1]
            self.tcp = _bound(socket.SOCK_STREAM, self.port)
            self.tcp.listen(64)
            self.upstream = socket.socket(
                socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
            )
            _redirect(self.port)
        except OSError:
            self.udp.close()
            raise


def _bound(kind: int, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        sock.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)  # the loopback interface may be down yet
        sock.bind((EMBEDDED_SERVER, port))
    except OSError:
        sock.close()
        raise
    return sock


def _redirect(port: int) -> None:
    """127.0.0.11:53 leads to *port*, in the namespace of this thread; replaces an older rule.

    Removing a table costs the kernel 10 ms (it waits for RCU): it is only done where there is one.
    """
    table = nft.Table(_TABLE, nft.FAMILY_IP)
    sock = NetlinkSocket(nft.NETLINK_NETFILTER)
    try:
        nft.commit(sock, [table.create(exclusive=True), *_rules(table, port)])
    except NetlinkError as error:
        if error.errno != errno.EEXIST:
            raise
        nft.commit(sock, [table.delete(), table.create(), *_rules(table, port)])
        # A client that goes on asking from its port would be led to the server that is gone.
        try:
            conntrack.forget(sock, [PortRule("udp", EMBEDDED_SERVER, 53, EMBEDDED_SERVER, port)])
        except NetlinkError as error:  # a kernel without ctnetlink
            log.warning("flows to the DNS server before cannot be forgotten: %s", error)
    finally:
        sock.close()


def _rules(table: nft.Table, port: int) -> list[Message]:
    address = socket.inet_aton(EMBEDDED_SERVER)
    messages = [table.base_chain("output", "nat", nft.OUTPUT, _DSTNAT)]
    for protocol in (socket.IPPROTO_UDP, socket.IPPROTO_TCP):
        messages.append(
            table.rule(
                "output",
                nft.network_header(16, 4),
                nft.equals(address),
                nft.meta(nft.META_L4PROTO),
                nft.equals(bytes([protocol])),
                nft.transport_header(2, 2),
                nft.equals(nft.port(53)),
                nft.immediate(nft.REG_1, address),
                nft.immediate(nft.REG_2, nft.port(port)),
                nft.dnat(table.family, nft.REG_1, nft.REG_2),
            )
        )
    return messages


class Server:
    """Serves from construction to :meth:`close`; on the event loop."""

    def __init__(
        self, sockets: Sockets, sandbox: SandboxRecord, pid: int, names: Names, host: Forwarder
    ) -> None:
        self._sandbox = sandbox
        self._pid = pid
        self._names = names
        self._host = host
        self._udp = sockets.udp
        self._tcp = sockets.tcp
        self._forwarder = Forwarder(sockets.upstream)
        self._tasks = Background("dns")
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._udp.fileno(), self._readable)
        self._loop.add_reader(self._tcp.fileno(), self._acceptable)

    async def close(self) -> None:
        self._loop.remove_reader(self._udp.fileno())
        self._loop.remove_reader(self._tcp.fileno())
        self._udp.close()
        self._tcp.close()
        self._forwarder.close()
        await self._tasks.close()

    def _readable(self) -> None:
        for _ in range(32):
            try:
                data, client = self._udp.recvfrom(_QUERY_MAX)
            except OSError:
                return
            reply = self._known(data, message.UDP_LIMIT)
            if reply is None:
                self._tasks.spawn(self._forward_udp(data, client), name="query")
            elif reply:
                self._send(reply, client)

    def _send(self, reply: bytes, client: tuple[str, int]) -> None:
        try:
            self._udp.sendto(reply, client)
        except OSError as error:
            log.debug("answer to %s was not sent: %s", client, error)

    async def _forward_udp(self, data: bytes, client: tuple[str, int]) -> None:
        for server in self._servers():
            forwarder = self._host if is_loopback(server) else self._forwarder
            reply = await forwarder.ask(data, server)
            if reply is not None:
                self._send(reply, client)
                return
        self._send(self._failed(data), client)

    def _servers(self) -> list[str]:
        """None for a container that has no way out."""
        resolver = self._sandbox.resolver
        if resolver is None or not self._sandbox.gateway_network:
            return []
        return [server for server in resolver.servers if ":" not in server]

    def _known(self, data: bytes, limit: int) -> bytes | None:
        """The answer from the networks' own names; None if others are to be asked, b"" for none."""
        try:
            question = message.parse(data)
        except message.Malformed:
            return message.refuse(data, message.FORMERR)
        if question.kind == message.PTR:
            name = self._names.reverse(self._sandbox, question.name)
            return message.answer(question, [message.encode_name(name)]) if name else None
        if question.kind not in (message.A, message.AAAA, message.MX):
            return None
        # Without records of the kind asked for the answer is an empty one: the name is there.
        addresses = self._names.addresses(self._sandbox, question.name)
        if addresses is None:
            return None
        wanted = addresses if question.kind == message.A else []
        return message.answer(question, [socket.inet_aton(one) for one in wanted], limit=limit)

    def _failed(self, data: bytes) -> bytes:
        return message.answer(message.parse(data), [], rcode=message.SERVFAIL)

    def _acceptable(self) -> None:
        try:
            connection, _ = self._tcp.accept()
        except OSError:
            return
        connection.setblocking(False)
        self._tasks.spawn(self._serve_tcp(connection), name="connection")

    async def _serve_tcp(self, connection: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=connection)
        try:
            while True:
                async with asyncio.timeout(_IDLE):
                    (length,) = struct.unpack(">H", await reader.readexactly(2))
                    data = await reader.readexactly(length)
                reply = self._known(data, 65535)
                if reply is None:
                    make = functools.partial(asyncio.to_thread, inside, self._pid, _stream_socket)
                    reply = await ask_by_tcp(data, self._servers(), make) or self._failed(data)
                writer.write(struct.pack(">H", len(reply)) + reply)
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()


def _stream_socket() -> socket.socket:
    return socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
