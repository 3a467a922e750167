"""Git repositories as sources: which URLs name one, and a checkout of what they name.

moby ``builder/remotecontext/{urlutil,git}``.
"""

from __future__ import annotations

import asyncio
import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from reexec.helpers.git import Clone
from services.engine.builder.scoped import resolve
from services.engine.helpers import Helpers, ask, document
from services.protocol.errors import InvalidParameter, SystemError_

_WEB = ("http://", "https://")
_PREFIXES = ("git://", "github.com/", "git@", "ssh://")
_REPOSITORY = re.compile(r"\.git(?:#.+)?$")
_SCHEMES = ("git", "http", "https", "ssh")


@dataclass(frozen=True)
class Remote:
    """``URL[#REF[:DIRECTORY]]`` in its parts; ``secret`` is the URL's account, which no message may show."""

    url: str
    ref: str
    subdirectory: str
    secret: str = ""


@dataclass(frozen=True)
class Checkout:
    """``path`` is the directory that was asked for, without links; ``commit`` its full id."""

    path: Path
    commit: str


def is_git(url: str) -> bool:
    """Whether the builder takes *url* for a repository (and not for a file to download)."""
    return url.startswith(_PREFIXES) or (url.startswith(_WEB) and _REPOSITORY.search(url) is not None)


def parse(url: str, default_ref: str = "master") -> Remote:
    """Raises ``InvalidParameter`` ("invalid refspec: ...")."""
    if not url.startswith("git@") and urlsplit(url).scheme not in _SCHEMES:
        url = f"https://{url}"
    address, _, fragment = url.partition("#")
    if not address.startswith("git@"):
        fragment = unquote(fragment)
    ref, _, subdirectory = fragment.partition(":")
    if ref.startswith("-"):
        raise InvalidParameter(f"invalid refspec: {ref}")
    if any(char.isspace() or not char.isprintable() for char in url):
        raise InvalidParameter(f"invalid character in URL {url!r}")
    account, at, _ = address.partition("://")[2].partition("/")[0].rpartition("@")
    return Remote(address, ref or default_ref, subdirectory, account if at and ":" in account else "")


async def clone(
    helpers: Helpers,
    url: str,
    place: Path,
    *,
    default_ref: str = "master",
    keep_git_dir: bool = True,
    checksum: str = "",
) -> Checkout:
    """A checkout of *url* below *place*, an empty directory of the caller's.

    ``default_ref`` is what a URL without a reference means ("HEAD": what the server says). ``checksum`` is
    the beginning of the commit's id. Raises ``InvalidParameter``, and ``SystemError_`` for what git says.
    Cancelling kills git.
    """
    remote = parse(url, default_ref)
    top = place / "repository"
    arguments = Clone(
        url=remote.url,
        ref=remote.ref,
        directory=str(top),
        keep_git_dir=keep_git_dir,
        checksum=checksum,
        secret=remote.secret,
    )
    commit = await ask(helpers, document("docker-git", arguments), str)
    return Checkout(await asyncio.to_thread(_inside, top, remote.subdirectory), commit)


def _inside(top: Path, subdirectory: str) -> Path:
    """*subdirectory* with links followed as if *top* were the root: none leads out of it."""
    if os.path.normpath(subdirectory.lstrip("/") or ".").split("/")[0] == "..":
        raise SystemError_(f'error setting git context, "{subdirectory}" not within git root')
    path = Path(resolve(top, subdirectory))
    if not path.exists():
        raise SystemError_(f"error setting git context, no such directory: {subdirectory}")
    if not path.is_dir():
        raise SystemError_(f"error setting git context, not a directory: {subdirectory}")
    return path
