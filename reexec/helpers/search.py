"""``docker-search JSON``: ask an index, which speaks the protocol from before distribution, for repositories.

Source of the order of steps and of the texts: moby ``daemon/pkg/registry/search*.go``.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import msgspec

from reexec.call import Call
from reexec.distribution.model import Credentials, Endpoint, Target
from reexec.registry import register
from services.protocol.errors import InvalidParameter, SystemError_

if TYPE_CHECKING:
    from reexec.distribution.transport import Transport

#: The only index that is not asked first whether it is one.
OFFICIAL_INDEX = "https://index.docker.io"
#: Bytes of the largest answer that is read.
_LIMIT = 4 << 20


class Search(msgspec.Struct, frozen=True):
    """``endpoints`` of one index in the order of trying: HTTPS, and plain HTTP if it is insecure."""

    endpoints: list[Endpoint]
    term: str
    limit: int
    credentials: Credentials = Credentials()


class Searched(msgspec.Struct, frozen=True):
    """The index's answer is in the descriptor ``out``."""

    size: int


@register("docker-search")
def main(call: Call) -> bytes:
    """Raises ``InvalidParameter`` where no index answers, and ``SystemError_`` where it says no."""
    from reexec.distribution.transport import finish
    from reexec.helpers.pull import read_all

    args = call.document(Search)
    endpoint, transport = _opened(args.endpoints)
    # As in url.QueryEscape; quote_plus is the default.
    url = f"{endpoint.url}/v1/search?{urlencode({'q': args.term, 'n': args.limit})}"
    headers = {"X-Docker-Token": "true", **_authorization(endpoint, args.credentials)}
    response = transport.request("GET", url, headers)
    if response.status != 200:
        finish(response)
        raise SystemError_(f"unexpected status code {response.status}")
    data = read_all(response, _LIMIT)
    os.pwrite(call.fds["out"], data, 0)
    return msgspec.msgpack.encode(Searched(len(data)))


def _opened(endpoints: list[Endpoint]) -> tuple[Endpoint, Transport]:
    from reexec.distribution.transport import Transport, TransportError, finish

    failures: list[str] = []
    for endpoint in endpoints:
        transport = Transport(endpoint)
        if endpoint.url == OFFICIAL_INDEX:
            return endpoint, transport
        try:
            # Any answer will do: a registry that has no index says so to the search itself.
            finish(transport.request("GET", f"{endpoint.url}/v1/_ping"))
            return endpoint, transport
        except TransportError as error:
            failures.append(str(error))
    url = f"{endpoints[-1].url}/v1/"
    if len(failures) > 1:
        raise InvalidParameter(
            f'invalid registry endpoint "{url}". HTTPS attempt: {failures[0]}. HTTP attempt: {failures[1]}'
        )
    host = endpoints[-1].url.partition("://")[2]
    raise InvalidParameter(
        f"invalid registry endpoint {url}: {failures[0]}. If this private registry supports only HTTP or "
        f"HTTPS with an unknown CA certificate, add `--insecure-registry {host}` to the daemon's arguments. "
        "In the case of HTTPS, if you have access to the registry's CA certificate, no need for the flag; "
        f"place the CA certificate at /etc/docker/certs.d/{host}/ca.crt"
    )


def _authorization(endpoint: Endpoint, credentials: Credentials) -> dict[str, str]:
    """A token of the registry beside the index for who has an identity token, else the password."""
    from reexec.distribution.client import Repository, basic

    if not credentials.username:
        return {}
    if credentials.identity_token:
        target = Target([endpoint], "", credentials, scopes=["registry:catalog:search"])
        repository = Repository(endpoint, target)
        repository.ping()
        found = repository.session.authorization
        return {"Authorization": found} if found else {}
    return {"Authorization": basic(credentials)}
