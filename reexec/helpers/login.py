"""``docker-login JSON``: would a registry let these credentials in?"""

from __future__ import annotations

import msgspec

from reexec.call import Call
from reexec.distribution.model import Target
from reexec.registry import register
from services.protocol.errors import ErrorKind, SystemError_, WharfError


class Login(msgspec.Struct, frozen=True):
    """``target.repository`` is empty."""

    target: Target


class LoggedIn(msgspec.Struct, frozen=True):
    """``identity_token`` is what a token server gave to use in place of the password."""

    identity_token: str = ""


@register("docker-login")
def main(call: Call) -> bytes:
    """Each endpoint in turn, until one lets us in or its token server says no."""
    import http.client

    from reexec.distribution.client import Repository

    target = call.document(Login).target
    last: WharfError = SystemError_("no endpoints found for the registry")
    for endpoint in target.endpoints:
        try:
            repository = Repository(endpoint, target)
            status = repository.log_in()
        except WharfError as error:
            if error.kind is ErrorKind.UNAUTHORIZED:
                raise
            last = error
            continue
        if status == 200:
            return msgspec.msgpack.encode(LoggedIn(repository.identity_token))
        reason = http.client.responses.get(status, "")
        last = SystemError_(
            f"login attempt to {endpoint.url}/v2/ failed with status: {status} {reason}".rstrip()
        )
    raise last
