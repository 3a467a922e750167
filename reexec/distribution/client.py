"""One repository of a registry: choosing the endpoint, being let in, and asking.

Life: :func:`opened` pings ``/v2/`` of each endpoint until one answers; a 401 there or later is answered by
what the challenge asks for: basic credentials, or a token from the server it names.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode, urljoin

import msgspec

from reexec.distribution import challenge, failures
from reexec.distribution.failures import RegistryError
from reexec.distribution.model import Credentials, Endpoint, Session, Target
from reexec.distribution.transport import Body, Response, Transport, TransportError, finish
from services.protocol import jsonshape
from services.protocol.errors import SystemError_, WharfError

_CLIENT_ID = "docker"


def basic(credentials: Credentials) -> str:
    pair = f"{credentials.username}:{credentials.password}"
    return "Basic " + base64.b64encode(pair.encode()).decode()


class Repository:
    """``path`` is below the registry's domain (``library/busybox``)."""

    def __init__(self, endpoint: Endpoint, target: Target) -> None:
        self.endpoint = endpoint
        self.path = target.repository
        self._target = target
        self._transport = Transport(endpoint)
        self._authorization = target.authorization
        #: A token server is asked for a token in place of the password, too.
        self._offline = False
        self.identity_token = ""

    @property
    def session(self) -> Session:
        return Session(self.endpoint, self._authorization)

    def url(self, path: str) -> str:
        return f"{self.endpoint.url}/v2/{self.path}/{path}"

    def absolute(self, location: str) -> str:
        """*location* of an answer, which may lack its host."""
        return urljoin(self.endpoint.url + "/v2/", location)

    def ping(self) -> None:
        """Raises :class:`TransportError` where no registry answers, and what getting in raises."""
        url = f"{self.endpoint.url}/v2/"
        response = self._transport.request("GET", url, self._headers(url, {}))
        if response.status == 401:
            self._let_in(response, url, "GET", first=True)
        elif response.status >= 500 or response.status == 404:
            raise TransportError(str(failures.of(response)))
        finish(response)

    def log_in(self) -> int:
        """The status of ``/v2/`` with the credentials; a token server may have answered instead."""
        url = f"{self.endpoint.url}/v2/"
        self._offline = True
        response = self._transport.request("GET", url)
        if response.status == 401 and self._let_in(response, url, "GET", first=True):
            finish(response)
            response = self._transport.request("GET", url, self._headers(url, {}))
        finish(response)
        return response.status

    def request(
        self, method: str, url: str, headers: Mapping[str, str] | None = None, body: Body = None
    ) -> Response:
        """The answer, whatever its status but 401, which is tried once more with new credentials."""
        response = self._transport.request(method, url, self._headers(url, headers or {}), body)
        if response.status != 401:
            return response
        # A body that is a stream has been consumed: the ping has let us in before.
        if not isinstance(body, bytes | None) or not self._let_in(response, url, method):
            return response
        finish(response)
        return self._transport.request(method, url, self._headers(url, headers or {}), body)

    def _headers(self, url: str, headers: Mapping[str, str]) -> dict[str, str]:
        """With the authorization, if *url* is the registry's own (uploads may go elsewhere)."""
        ours = self._authorization and url.startswith(self.endpoint.url + "/")
        return {**({"Authorization": self._authorization} if ours else {}), **headers}

    def _let_in(self, response: Response, url: str, method: str, *, first: bool = False) -> bool:
        """Get what a 401 asks for; False when there is nothing new to try, and the answer stands.

        At the ping, missing credentials are no error yet: the request itself tells.
        """
        before = self._authorization
        for one in challenge.parse(", ".join(response.headers.getlist("WWW-Authenticate"))):
            if one.scheme == "bearer":
                self._authorization = "Bearer " + self._token(one.parameters)
            elif one.scheme == "basic":
                if not self._target.credentials.username or not self._target.credentials.password:
                    if first:
                        return False
                    if self._target.push:
                        raise SystemError_("no basic auth credentials")
                    raise SystemError_(f'{method.capitalize()} "{url}": no basic auth credentials')
                self._authorization = basic(self._target.credentials)
            else:
                continue
            return self._authorization != before
        return False

    def _scopes(self) -> list[str]:
        if not self.path:
            return list(self._target.scopes)
        actions = "pull,push" if self._target.push else "pull"
        return [
            f"repository:{self.path}:{actions}",
            *(f"repository:{source}:pull" for source in self._target.sources),
        ]

    def _token(self, parameters: dict[str, str]) -> str:
        """From the server that the challenge names (distribution's docs/spec/auth/token.md)."""
        credentials = self._target.credentials
        if credentials.registry_token:
            return credentials.registry_token
        realm, service = parameters.get("realm", ""), parameters.get("service", "")
        if not realm.startswith(("http://", "https://")):
            raise SystemError_(f"unable to resolve realm url of a token: {realm!r}")
        scopes = self._scopes()
        if credentials.identity_token:
            return self._oauth_token(realm, service, scopes)
        query = [("service", service)] if service else []
        query += [("scope", scope) for scope in scopes]
        headers: dict[str, str] = {}
        if self._offline:
            query += [("offline_token", "true"), ("client_id", _CLIENT_ID)]
        if credentials.username:
            query.insert(0, ("account", credentials.username))
            headers["Authorization"] = basic(credentials)
        separator = "&" if "?" in realm else "?"
        response = self._transport.request("GET", f"{realm}{separator}{urlencode(query)}", headers)
        return self._read_token(response)

    def _oauth_token(self, realm: str, service: str, scopes: list[str]) -> str:
        form = {
            "grant_type": "refresh_token",
            "refresh_token": self._target.credentials.identity_token,
            "client_id": _CLIENT_ID,
            "service": service,
            "scope": " ".join(scopes),
        }
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return self._read_token(self._transport.request("POST", realm, headers, urlencode(form).encode()))

    def _read_token(self, response: Response) -> str:
        if response.status >= 300:
            raise failures.of(response).told()
        data = finish(response)
        try:
            document: Any = jsonshape.parse(data)
            token = document.get("token") or document.get("access_token")
            self.identity_token = str(document.get("refresh_token") or "")
        except (msgspec.DecodeError, AttributeError):
            token = None
        if not isinstance(token, str) or not token:
            raise SystemError_("authorization server did not include a token in the response")
        return token


def opened(target: Target) -> Repository:
    """The repository at the first endpoint that answers. Raises the last endpoint's error."""
    last: WharfError = SystemError_("no endpoints found for the registry")
    for number, endpoint in enumerate(target.endpoints):
        repository = Repository(endpoint, target)
        try:
            if not target.authorization:
                repository.ping()
            return repository
        except TransportError as error:
            last = error
        except WharfError as error:
            if not endpoint.fallback or number == len(target.endpoints) - 1:
                raise
            last = error
    raise last


__all__ = ["RegistryError", "Repository", "opened"]
