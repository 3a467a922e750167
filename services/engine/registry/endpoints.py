"""From a registry's name to the places where it may answer, in the order in which they are tried.

The rules are those of moby ``daemon/pkg/registry/service_v2.go`` and ``config.go``: mirrors are for
docker.io alone; an insecure registry's certificate is not checked, and plain HTTP is tried after it.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from pathlib import Path

import msgspec

from reexec.distribution.model import Endpoint
from reexec.helpers.search import OFFICIAL_INDEX
from services.engine.images.references import DEFAULT_DOMAIN, LEGACY_DOMAIN

DOCKER_HUB = "https://registry-1.docker.io"
#: ``serveraddress`` of Docker Hub in credentials.
DOCKER_HUB_INDEX = "https://index.docker.io/v1/"
_CERTIFICATES = Path("/etc/docker/certs.d")
#: Always insecure, as in dockerd.
_LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Endpoints:
    def __init__(self, mirrors: Sequence[str], insecure: Sequence[str]) -> None:
        self._mirrors = [mirror.rstrip("/") for mirror in mirrors]
        self._networks: list[_Network] = list(_LOOPBACK)
        self._hosts: set[str] = set()
        for item in insecure:
            try:
                self._networks.append(ipaddress.ip_network(item, strict=False) if "/" in item else _never())
            except ValueError:
                self._hosts.add(item.removeprefix("http://").removeprefix("https://").lower())

    def insecure(self, domain: str) -> bool:
        """By name (with its port), or by its address: it blocks where the domain is a name to look up."""
        if domain.lower() in self._hosts:
            return True
        host = _host(domain)
        if host.lower() in self._hosts:
            return True
        return any(address in network for address in _addresses(host) for network in self._networks)

    def of(self, domain: str, *, mirrors: bool = True) -> list[Endpoint]:
        """Blocks like :meth:`insecure`. Mirrors are for pulling only."""
        if domain in (DEFAULT_DOMAIN, LEGACY_DOMAIN):
            preferred = self._mirrors if mirrors else []
            return [*(self._mirror(url) for url in preferred), self._endpoint("https", DOCKER_HUB[8:])]
        insecure = self.insecure(domain)
        secure = self._endpoint("https", domain, verify=not insecure)
        if not insecure:
            return [secure]
        return [secure, self._endpoint("http", domain, verify=False)]

    def index(self, domain: str) -> list[Endpoint]:
        """Where to search; Docker's own index has the certificates of the short name. Blocks."""
        if domain == DEFAULT_DOMAIN:
            return [msgspec.structs.replace(self._endpoint("https", domain), url=OFFICIAL_INDEX)]
        return self.of(domain, mirrors=False)

    def _mirror(self, url: str) -> Endpoint:
        scheme, _, domain = url.partition("://")
        insecure = self.insecure(domain)
        return self._endpoint(scheme, domain, verify=not insecure, fallback=True)

    @staticmethod
    def _endpoint(scheme: str, domain: str, *, verify: bool = True, fallback: bool = False) -> Endpoint:
        certificates = _CERTIFICATES / domain
        there = str(certificates) if scheme == "https" and certificates.is_dir() else ""
        return Endpoint(f"{scheme}://{domain}", verify, fallback, there)


def _never() -> _Network:
    raise ValueError("a name, not a network")


def _host(domain: str) -> str:
    if domain.startswith("["):
        return domain[1:].partition("]")[0]
    return domain.partition(":")[0]


def _addresses(host: str) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    try:
        return [ipaddress.ip_address(host)]
    except ValueError:
        pass
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return [ipaddress.ip_address(str(item[4][0]).partition("%")[0]) for item in found]
