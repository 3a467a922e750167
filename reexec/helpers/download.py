"""``docker-download JSON``: a URL into a file (``ADD`` of a URL, a build's remote context)."""

from __future__ import annotations

import base64
import email.utils
import http.client
import os
import posixpath
import socket
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

import msgspec

from reexec.archive.streams import BLOCK, DigestingSource
from reexec.call import Call
from reexec.distribution import proxies
from reexec.registry import register
from services.protocol.errors import Forbidden, InvalidParameter, NotFound, SystemError_, Unauthorized

#: Seconds without a byte.
_TIMEOUT = 60.0
_WEB = ("http://", "https://")
_STATUS = {400: InvalidParameter, 401: Unauthorized, 403: Forbidden, 404: NotFound}


class Download(msgspec.Struct, frozen=True):
    """``directory`` gets a file ``name``, or of the URL's own name when that is empty. ``algorithm`` is
    that of the digest: sha256, sha384 or sha512."""

    url: str
    directory: str
    name: str = ""
    algorithm: str = "sha256"


class Downloaded(msgspec.Struct, frozen=True):
    """``name`` is "" when neither the URL nor the server has one: the file is called ``download``.
    ``digest`` is ``<algorithm>:<hex>``, ``content_type`` what the server says, "" if nothing."""

    path: str
    name: str
    digest: str
    content_type: str = ""


class _Proxied(urllib.request.ProxyHandler):
    """The library's handler, with our rules about which hosts have a proxy."""

    def __init__(self, rules: proxies.Proxies) -> None:
        self._rules = rules
        super().__init__({name: url for name, url in (("http", rules.http), ("https", rules.https)) if url})

    def proxy_open(self, req: urllib.request.Request, proxy: str, type: str) -> Any:
        proxy = self._rules.of(req.full_url)
        return super().proxy_open(req, proxy, type) if proxy else None


class _Redirects(urllib.request.HTTPRedirectHandler):
    """The library's handler, but for the web only, and without telling another host the account."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        if not newurl.startswith(_WEB):
            raise urllib.error.URLError(f'unsupported protocol scheme "{newurl.partition(":")[0]}"')
        if urllib.parse.urlsplit(newurl).netloc != urllib.parse.urlsplit(req.full_url).netloc:
            req.remove_header("Authorization")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _request(url: str) -> urllib.request.Request:
    """An account in the URL becomes a header, as every client does it."""
    parts = urllib.parse.urlsplit(url)
    found = proxies.account(url)
    if found is None:
        return urllib.request.Request(url)
    token = base64.b64encode(":".join(found).encode()).decode()
    plain = urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    return urllib.request.Request(plain, headers={"Authorization": f"Basic {token}"})


@register("docker-download")
def main(call: Call) -> bytes:
    """Raises in dockerd's words and kinds ("failed to GET ... with status 404 Not Found")."""
    args = call.document(Download)
    shown = proxies.masked(args.url)
    try:
        # Only what the caller has checked to be http or https gets here.
        opener = urllib.request.build_opener(_Proxied(proxies.environment()), _Redirects())
        with opener.open(_request(args.url), timeout=_TIMEOUT) as response:
            name = args.name or _name(args.url, response.headers.get_filename())
            path = os.path.join(args.directory, name or "download")
            with open(path, "xb") as file:
                os.fchmod(file.fileno(), 0o600)
                source = DigestingSource(response, args.algorithm)
                while data := source.read(BLOCK):
                    file.write(data)
            length = response.headers.get("Content-Length")
            if length is not None and length.isdigit() and int(length) != source.size:
                raise SystemError_(f'Get "{shown}": unexpected EOF')
            _set_time(path, response.headers.get("Last-Modified"))
    except urllib.error.HTTPError as error:
        if str(error.reason).startswith(_Redirects.inf_msg):
            text = f'Get "{shown}": stopped after {_Redirects.max_redirections} redirects'
            raise SystemError_(text) from error
        text = f"failed to GET {shown} with status {error.code} {error.reason}"
        said = error.read(1024).decode(errors="replace").strip()
        raise _STATUS.get(error.code, SystemError_)(f"{text}: {said}") from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        text = f'Get "{shown}": {_reason(error, args.url)}'
        raise (NotFound if isinstance(_cause(error), socket.gaierror) else SystemError_)(text) from error
    told = response.headers.get("Content-Type") or ""
    return msgspec.msgpack.encode(Downloaded(path, name, source.digest, told))


def _name(url: str, told: str | None) -> str:
    path = urllib.parse.unquote(urllib.parse.urlsplit(url).path)
    name = posixpath.basename(path) or posixpath.basename(told or "")
    return "" if name in (".", "..") else name


def _set_time(path: str, modified: str | None) -> None:
    """The server's time of the file, else the epoch: when it was fetched is nobody's business."""
    try:
        seconds = email.utils.parsedate_to_datetime(modified).timestamp() if modified else 0
    except ValueError:
        seconds = 0
    os.utime(path, (seconds, seconds))


def _cause(error: Exception) -> object:
    return error.reason if isinstance(error, urllib.error.URLError) else error


def _reason(error: Exception, url: str) -> str:
    # Not above: who only asks for downloads is spared the TLS library.
    import ssl

    from reexec.distribution import gowords

    cause, parts = _cause(error), urllib.parse.urlsplit(url)
    if isinstance(cause, ssl.SSLError):
        return gowords.tls(cause, parts.hostname or "")
    if isinstance(error, urllib.error.URLError) and isinstance(cause, OSError):
        port = parts.port or (443 if parts.scheme == "https" else 80)
        return gowords.connecting(parts.hostname or "", port, cause)
    return str(cause)
