"""The sockets the API listens on: ``unix://``, ``tcp://`` and ``fd://``.

Made before gunicorn starts, so that an address in use, a missing group or TLS is one clear error.
Imports nothing of the protocol: this runs in the arbiter, which is kept small.
"""

from __future__ import annotations

import errno
import grp
import logging
import os
import socket
import stat
import time
from contextlib import ExitStack
from pathlib import Path

log = logging.getLogger(__name__)

DEFAULT_GROUP = "docker"
#: First descriptor passed by systemd (sd_listen_fds(3)).
LISTEN_FDS_START = 3
BACKLOG = 1024
#: Seconds to wait for a port that the previous API server is just leaving.
_PORT_WAIT = 5.0
_DEFAULT_PORT = 2375
_TLS_PORT = 2376


class ListenError(Exception):
    """An address that cannot be listened on; the text is for the log."""


def open_all(hosts: list[str], group: str) -> list[socket.socket]:
    """Listening sockets for *hosts*, in order."""
    with ExitStack() as undo:
        opened: list[socket.socket] = []
        for host in hosts:
            for sock in _open(host, group):
                undo.callback(sock.close)
                opened.append(sock)
        undo.pop_all()
        return opened


def _open(host: str, group: str) -> list[socket.socket]:
    scheme, separator, rest = host.partition("://")
    if not separator:
        raise ListenError(f"invalid address {host}: must be unix://, tcp:// or fd://")
    if scheme == "unix":
        return [_unix(rest, group)]
    if scheme == "tcp":
        return [_tcp(rest)]
    if scheme == "fd":
        return _inherited(rest)
    raise ListenError(f"invalid protocol: {scheme}")


def _unix(path: str, group: str) -> socket.socket:
    """Only root and *group* may connect. A socket left by a dead process is replaced."""
    with ExitStack() as undo:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        undo.callback(sock.close)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        try:
            if not stat.S_ISSOCK(os.lstat(path).st_mode):
                raise ListenError(f"can't create unix socket {path}: it exists and is not a socket")
            os.unlink(path)
        except FileNotFoundError:
            pass
        mask = os.umask(0o177)
        try:
            sock.bind(path)
        finally:
            os.umask(mask)
        gid = _group_id(group)
        os.chown(path, 0 if os.getuid() == 0 else -1, gid)
        os.chmod(path, 0o660)
        sock.listen(BACKLOG)
        undo.pop_all()
        return sock


def _group_id(group: str) -> int:
    """Like dockerd: only the default group may be missing (-1: leave it as it is)."""
    if not group:
        return -1
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        if group.isdigit():
            return int(group)
        if group == DEFAULT_GROUP:
            log.warning("could not change group of the API socket to docker: group docker not found")
            return -1
        raise ListenError(f"can't change the group of the API socket: group {group} not found") from None


def _tcp(address: str) -> socket.socket:
    host, port = _split(address)
    if port == _TLS_PORT:
        raise ListenError(f"tcp://{address}: TLS (port {_TLS_PORT}) is not supported")
    if host not in ("127.0.0.1", "::1", "localhost"):
        log.warning(
            "Binding to IP address without --tlsverify is insecure and gives root access on this machine "
            "to everyone who has access to your network. host=%s",
            f"tcp://{address}",
        )
    info = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    with ExitStack() as undo:
        sock = socket.socket(info[0], socket.SOCK_STREAM)
        undo.callback(sock.close)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _bind(sock, info[4])
        sock.listen(BACKLOG)
        undo.pop_all()
        return sock


def _bind(sock: socket.socket, address: tuple[object, ...]) -> None:
    limit = time.monotonic() + _PORT_WAIT
    while True:
        try:
            sock.bind(address)
            return
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() > limit:
                raise ListenError(f"listen tcp {address[0]}:{address[1]}: {error.strerror}") from error
        time.sleep(0.1)


def _split(address: str) -> tuple[str, int]:
    host, colon, port = address.rstrip("/").rpartition(":")
    if not colon:
        host, port = address, str(_DEFAULT_PORT)
    if not port.isdigit():
        raise ListenError(f"invalid bind address format: tcp://{address}")
    return host.strip("[]"), int(port)


def _inherited(name: str) -> list[socket.socket]:
    """Sockets passed by systemd; *name* is empty or ``*`` (all), or a number counted from 3."""
    count = int(os.environ.get("LISTEN_FDS", "0"))
    if os.environ.get("LISTEN_PID") not in (None, str(os.getpid())):
        count = 0
    if not count:
        raise ListenError(
            "no sockets found via socket activation: make sure the service was started by systemd"
        )
    fds = list(range(LISTEN_FDS_START, LISTEN_FDS_START + count))
    if name not in ("", "*"):
        if not name.isdigit() or int(name) not in fds:
            raise ListenError(f"failed to find socket fd://{name}")
        fds = [int(name)]
    return [socket.socket(fileno=fd) for fd in fds]
