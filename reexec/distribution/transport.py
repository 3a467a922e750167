"""HTTP to one endpoint: certificates, proxies, redirects, and failures in words.

The library's own redirects and retries are off: where a request goes decides whether the credentials go
with it, and how often it is tried is the caller's business.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urljoin, urlsplit

import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NameResolutionError,
    NewConnectionError,
    ProxyError,
    SSLError,
)

from reexec.distribution import gowords, proxies
from reexec.distribution.model import Endpoint
from services.protocol.errors import InvalidParameter, SystemError_
from services.protocol.release import DOCKER_VERSION

#: Seconds: to connect, and between two reads of an answer.
CONNECT_TIMEOUT, READ_TIMEOUT = 15.0, 60.0
_REDIRECTS = (301, 302, 303, 307, 308)
_MAX_REDIRECTS = 10
#: Bytes that an answer without a use for us may have before its connection is dropped.
_SHORT = 64 << 10
_USER_AGENT = f"docker/{DOCKER_VERSION} (linux)"

Response = urllib3.BaseHTTPResponse
Body = bytes | Iterable[bytes] | Any


class TransportError(SystemError_):
    """No answer, or only a part of one: another attempt may fare better."""


class Transport:
    """Connections to an endpoint and to where it redirects to."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._pools: dict[str, urllib3.PoolManager] = {}
        self._proxies = proxies.environment()

    def request(
        self, method: str, url: str, headers: Mapping[str, str] | None = None, body: Body = None
    ) -> Response:
        """The answer, whatever its status, its body unread. Raises :class:`TransportError`."""
        first = url
        sent = {"User-Agent": _USER_AGENT, **(headers or {})}
        for _ in range(_MAX_REDIRECTS):
            response = self._send(method, url, first, sent, body)
            location = response.headers.get("Location", "")
            if response.status not in _REDIRECTS or not location or method not in ("GET", "HEAD"):
                return response
            finish(response)
            target = urljoin(url, location)
            if not target.startswith(("http://", "https://")):
                scheme = target.partition(":")[0]
                raise SystemError_(
                    f'{method.capitalize()} "{target}": unsupported protocol scheme "{scheme}"'
                )
            if not _same_origin(url, target):
                # They were for the host they were given to (CVE-2018-18074 and its kin).
                sent.pop("Authorization", None)
            url = target
        raise SystemError_(f'{method.capitalize()} "{first}": stopped after {_MAX_REDIRECTS} redirects')

    def _send(self, method: str, url: str, shown: str, headers: Mapping[str, str], body: Body) -> Response:
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = parts.port or (443 if parts.scheme == "https" else 80)
        proxy = self._proxies.of(url)
        try:
            return self._pool(proxy).request(
                method,
                url,
                headers=dict(headers),
                body=body,
                preload_content=False,
                decode_content=False,
                redirect=False,
                retries=False,
                timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT, read=READ_TIMEOUT),
            )
        except (HTTPError, OSError) as error:
            text = f'{method.capitalize()} "{shown}": {_told(error, host, port, proxy)}'
            raise TransportError(text) from error

    def _pool(self, proxy: str) -> urllib3.PoolManager:
        if proxy not in self._pools:
            options: dict[str, Any] = {"ssl_context": tls_context(self._endpoint), "maxsize": 2}
            if not self._endpoint.verify:
                options["assert_hostname"] = False
            self._pools[proxy] = _through(proxy, options) if proxy else urllib3.PoolManager(**options)
        return self._pools[proxy]


def _through(proxy: str, options: dict[str, Any]) -> urllib3.ProxyManager:
    user = proxies.account(proxy)
    headers = urllib3.make_headers(proxy_basic_auth=":".join(user)) if user else None
    return urllib3.ProxyManager(proxy, proxy_headers=headers, **options)


def _same_origin(one: str, other: str) -> bool:
    """Same host, and not from HTTPS to HTTP, where everybody can read."""
    left, right = urlsplit(one), urlsplit(other)
    return left.netloc == right.netloc and (left.scheme, right.scheme) != ("https", "http")


def tls_context(endpoint: Endpoint) -> ssl.SSLContext:
    """With what ``certs.d`` has for the endpoint. Raises ``InvalidParameter`` for half of a pair.

    Source: moby ``daemon/pkg/registry/registry.go``, ReadCertsDirectory.
    """
    context = ssl.create_default_context()
    if not endpoint.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    directory = endpoint.certificates
    for name in sorted(os.listdir(directory)) if directory else ():
        path = os.path.join(directory, name)
        base, extension = os.path.splitext(path)
        try:
            if extension == ".crt":
                context.load_verify_locations(path)
            elif extension == ".cert":
                _need(f"{base}.key", f"missing key {{}} for client certificate {name}. {_CRT}")
                context.load_cert_chain(path, f"{base}.key")
            elif extension == ".key":
                _need(f"{base}.cert", f"missing client certificate {{}} for key {name}")
        except ssl.SSLError as error:
            raise SystemError_(f"{path}: {error.reason or error}") from error
        except OSError as error:
            raise SystemError_(f"open {path}: {gowords.errno_text(error)}") from error
    return context


_CRT = "CA certificates must use the extension .crt"


def _need(path: str, text: str) -> None:
    if not os.path.exists(path):
        raise InvalidParameter(text.format(os.path.basename(path)))


def _told(error: BaseException, host: str, port: int, proxy: str) -> str:
    if isinstance(error, ProxyError):
        return _proxy_told(error.original_error, proxy)
    if isinstance(error, NameResolutionError | NewConnectionError) and error.__cause__ is not None:
        return gowords.connecting(host, port, error.__cause__)
    if isinstance(error, ConnectTimeoutError):
        return gowords.connecting(host, port, TimeoutError())
    if (failed := _tls_error(error)) is not None:
        return gowords.tls(failed, host)
    if isinstance(error, SSLError):
        return str(error)
    return gowords.reading(error).replace("unexpected EOF", "EOF")


def _tls_error(error: BaseException) -> ssl.SSLError | None:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            return cause
        cause = cause.__cause__ or cause.__context__
    return None


def _proxy_told(error: BaseException, proxy: str) -> str:
    """A proxy that cannot be reached, or that answers CONNECT with another status than 200."""
    if refused := _TUNNEL.match(str(error)):
        return refused[1]
    parts = urlsplit(proxy)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return f"proxyconnect tcp: {_told(error, host, port, '')}"


#: http.client's text of it; Go shows the reason alone.
_TUNNEL = re.compile(r"Tunnel connection failed: \d+ (.*)", re.DOTALL)


def finish(response: Response) -> bytes:
    """What is left of a short answer, and its connection is free for the next request."""
    data = b""
    try:
        while len(data) <= _SHORT:
            more = response.read(_SHORT)
            if not more:
                response.release_conn()
                return data
            data += more
    except (HTTPError, OSError):
        pass
    response.close()
    return data
