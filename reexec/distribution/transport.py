"""HTTP to one endpoint: certificates, proxies, redirects, and failures in words.

The library's own redirects and retries are off: where a request goes decides whether the credentials go
with it, and how often it is tried is the caller's business.
"""

from __future__ import annotations

import glob
import os
import ssl
import urllib.request
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

from reexec.distribution import gowords
from reexec.distribution.model import Endpoint
from services.protocol.errors import SystemError_
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
            if urlsplit(target).netloc != urlsplit(url).netloc:
                # They were for the host they were given to (CVE-2018-18074 and its kin).
                sent.pop("Authorization", None)
            url = target
        raise SystemError_(f'{method.capitalize()} "{first}": stopped after {_MAX_REDIRECTS} redirects')

    def _send(self, method: str, url: str, shown: str, headers: Mapping[str, str], body: Body) -> Response:
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = parts.port or (443 if parts.scheme == "https" else 80)
        try:
            return self._pool(parts.scheme, host).request(
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
            text = f'{method.capitalize()} "{shown}": {_told(error, host, port)}'
            raise TransportError(text) from error

    def _pool(self, scheme: str, host: str) -> urllib3.PoolManager:
        proxy = _proxy(scheme, host)
        if proxy not in self._pools:
            options: dict[str, Any] = {"ssl_context": self._tls(), "maxsize": 2}
            if not self._endpoint.verify:
                options["assert_hostname"] = False
            self._pools[proxy] = (
                urllib3.ProxyManager(proxy, **options) if proxy else urllib3.PoolManager(**options)
            )
        return self._pools[proxy]

    def _tls(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        if not self._endpoint.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        directory = self._endpoint.certificates
        try:
            for authority in sorted(glob.glob(os.path.join(glob.escape(directory), "*.crt"))) * bool(
                directory
            ):
                context.load_verify_locations(authority)
            for certificate in sorted(glob.glob(os.path.join(glob.escape(directory), "*.cert"))) * bool(
                directory
            ):
                key = certificate.removesuffix(".cert") + ".key"
                if not os.path.exists(key):
                    raise SystemError_(
                        f"missing key {os.path.basename(key)} for client certificate "
                        f"{os.path.basename(certificate)}. CA certificates must use the extension .crt"
                    )
                context.load_cert_chain(certificate, key)
        except (OSError, ssl.SSLError) as error:
            raise SystemError_(f"{directory}: {error}") from error
        return context


def _proxy(scheme: str, host: str) -> str:
    """The proxy that the environment names for *host*; "" for none. Loopback never has one, as in Go."""
    if host in ("localhost", "::1") or host.startswith("127.") or urllib.request.proxy_bypass(host):
        return ""
    return urllib.request.getproxies().get(scheme, "")


def _told(error: BaseException, host: str, port: int) -> str:
    if isinstance(error, ProxyError):
        return f"proxyconnect tcp: {error.original_error}"
    if isinstance(error, NameResolutionError | NewConnectionError) and error.__cause__ is not None:
        return gowords.connecting(host, port, error.__cause__)
    if isinstance(error, ConnectTimeoutError):
        return gowords.connecting(host, port, TimeoutError())
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            return gowords.tls(cause, host)
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, SSLError):
        return str(error)
    return gowords.reading(error).replace("unexpected EOF", "EOF")


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
