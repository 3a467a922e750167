"""Failures of the network in the words of Go's libraries, which users and their scripts know from Docker.

``dial tcp 127.0.0.1:5000: connect: connection refused`` is what Go makes of ECONNREFUSED (net.OpError).
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
from pathlib import Path

_RESOLV_CONF = Path("/etc/resolv.conf")
_DNS_PORT = 53
#: What Go says of a syscall's error is the C library's text, without the capital letter.
_HANDSHAKE = (
    ("WRONG_VERSION_NUMBER", "http: server gave HTTP response to HTTPS client"),
    ("HTTP_REQUEST", "http: server gave HTTP response to HTTPS client"),
    ("RECORD_LAYER_FAILURE", "http: server gave HTTP response to HTTPS client"),
    ("UNEXPECTED_EOF", "EOF"),
)
_VERIFY = (
    ("self-signed", "certificate signed by unknown authority"),
    ("unable to get", "certificate signed by unknown authority"),
    ("has expired", "certificate has expired or is not yet valid"),
    ("not yet valid", "certificate has expired or is not yet valid"),
)


def errno_text(error: OSError) -> str:
    """``connection refused``."""
    text = os.strerror(error.errno) if error.errno else str(error)
    return text[:1].lower() + text[1:]


def connecting(host: str, port: int, error: BaseException) -> str:
    """Why no connection came to be: *error* is what the socket raised."""
    if isinstance(error, socket.gaierror):
        return f"dial tcp: {lookup(host, error)}"
    if isinstance(error, TimeoutError):
        return f"dial tcp {address(host, port)}: i/o timeout"
    if isinstance(error, OSError) and not isinstance(error, ssl.SSLError):
        return f"dial tcp {address(host, port)}: connect: {errno_text(error)}"
    return str(error)


def address(host: str, port: int) -> str:
    """``1.2.3.4:443``: the address that was dialled, as far as a name has one."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][4]
    except OSError:
        return f"{host}:{port}"
    name = str(found[0])
    return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"


def lookup(host: str, error: socket.gaierror) -> str:
    """Why *host* has no address, told from the state of the name server (no packet is sent)."""
    server = name_server()
    if server is None:
        return f"lookup {host}: no such host"
    where = f"{server}:{_DNS_PORT}" if ":" not in server else f"[{server}]:{_DNS_PORT}"
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((server, _DNS_PORT))
        except OSError as refused:
            return f"lookup {host} on {where}: dial udp {where}: connect: {errno_text(refused)}"
        local = probe.getsockname()
    if error.errno == socket.EAI_AGAIN:
        return f"lookup {host} on {where}: read udp {local[0]}:{local[1]}->{where}: i/o timeout"
    return f"lookup {host} on {where}: no such host"


def name_server() -> str | None:
    """The first name server of this host."""
    try:
        text = _RESOLV_CONF.read_text()
    except OSError:
        return None
    for line in text.splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver":
            return words[1]
    return None


def tls(error: ssl.SSLError, host: str) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        told = error.verify_message or str(error)
        for part, text in _VERIFY:
            if part in told:
                return f"tls: failed to verify certificate: x509: {text}"
        if "ismatch" in told:
            return f"tls: failed to verify certificate: x509: certificate is not valid for {host}"
        return f"tls: failed to verify certificate: x509: {told}"
    for part, text in _HANDSHAKE:
        if part in str(error):
            return text
    return f"remote error: tls: {error.reason or error}"


def reading(error: BaseException) -> str:
    """Why an answer was not read to its end."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, TimeoutError):
            return "i/o timeout"
        if isinstance(cause, ConnectionResetError) and cause.errno == errno.ECONNRESET:
            return "read: connection reset by peer"
        cause = cause.__cause__ or cause.__context__
    return "unexpected EOF"
