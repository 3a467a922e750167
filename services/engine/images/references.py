"""Image references, as the ``distribution/reference`` module understands them.

A *familiar* name (``busybox``) is a *normalized* one (``docker.io/library/busybox``) with the defaults left
out. Error texts are those of the Go module, which users see.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from services.protocol.errors import InvalidParameter

DEFAULT_DOMAIN = "docker.io"
LEGACY_DOMAIN = "index.docker.io"
OFFICIAL_PREFIX = "library/"
DEFAULT_TAG = "latest"
_NAME_LIMIT = 255

_ALNUM = r"[a-z0-9]+"
_SEPARATOR = r"(?:[._]|__|[-]+)"
_COMPONENT = rf"{_ALNUM}(?:{_SEPARATOR}{_ALNUM})*"
_DOMAIN_PART = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_IPV6 = r"\[(?:[a-fA-F0-9:]+)\]"
_DOMAIN = rf"(?:{_DOMAIN_PART}(?:\.{_DOMAIN_PART})*|{_IPV6})(?::[0-9]+)?"
_NAME = rf"(?:{_DOMAIN}/)?{_COMPONENT}(?:/{_COMPONENT})*"
_TAG = r"[\w][\w.-]{0,127}"
_DIGEST = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}"

_REFERENCE = re.compile(rf"({_NAME})(?::({_TAG}))?(?:@({_DIGEST}))?", re.ASCII)
_SPLIT_NAME = re.compile(rf"(?:({_DOMAIN})/)?({_COMPONENT}(?:/{_COMPONENT})*)", re.ASCII)
_TAG_ONLY = re.compile(_TAG, re.ASCII)
_IDENTIFIER = re.compile(r"[a-f0-9]{64}")
_DIGEST_SIZES = {"sha256": 64, "sha384": 96, "sha512": 128}


@dataclass(frozen=True)
class Reference:
    """A normalized reference; ``tag`` and ``digest`` are "" when the user gave none."""

    domain: str
    path: str
    tag: str = ""
    digest: str = ""

    @property
    def name(self) -> str:
        """Without tag and digest: ``docker.io/library/busybox``."""
        return f"{self.domain}/{self.path}"

    @property
    def familiar_name(self) -> str:
        if self.domain != DEFAULT_DOMAIN:
            return self.name
        rest = self.path.removeprefix(OFFICIAL_PREFIX)
        return rest if "/" not in rest else self.path

    @property
    def familiar(self) -> str:
        """As users see it: ``busybox:latest``."""
        return self.familiar_name + self._suffix

    @property
    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    def __str__(self) -> str:
        return self.name + self._suffix

    def with_default_tag(self) -> Reference:
        """With ``latest`` if it names neither tag nor digest."""
        return self if self.tag or self.digest else replace(self, tag=DEFAULT_TAG)

    def without_tag(self) -> Reference:
        return replace(self, tag="")


def _split_domain(name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    if not slash:
        return DEFAULT_DOMAIN, OFFICIAL_PREFIX + name
    if first == LEGACY_DOMAIN:
        domain, remainder = DEFAULT_DOMAIN, rest
    elif first == "localhost" or "." in first or ":" in first or first.lower() != first:
        domain, remainder = first, rest
    else:
        domain, remainder = DEFAULT_DOMAIN, name
    if domain == DEFAULT_DOMAIN and "/" not in remainder:
        remainder = OFFICIAL_PREFIX + remainder
    return domain, remainder


def parse(text: str) -> Reference:
    """A name as users write it. Raises ``InvalidParameter`` with Docker's text."""
    if _IDENTIFIER.fullmatch(text):
        raise InvalidParameter(
            f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings"
        )
    domain, remainder = _split_domain(text)
    remote = remainder.partition(":")[0]
    if remote.lower() != remote:
        raise InvalidParameter(f"invalid reference format: repository name ({remote}) must be lowercase")
    match = _REFERENCE.fullmatch(f"{domain}/{remainder}")
    if match is None:
        raise InvalidParameter("invalid reference format")
    name, tag, digest = match.groups()
    split = _SPLIT_NAME.fullmatch(name)
    if split is None or split[1] is None:
        raise InvalidParameter("invalid reference format")
    if len(split[2]) > _NAME_LIMIT:
        raise InvalidParameter(f"repository name must not be more than {_NAME_LIMIT} characters")
    if digest:
        check_digest(digest)
    return Reference(split[1], split[2], tag or "", digest or "")


def check_digest(digest: str) -> None:
    """Raises ``InvalidParameter`` unless *digest* is of a known algorithm and its length."""
    algorithm, _, value = digest.partition(":")
    if algorithm not in _DIGEST_SIZES:
        raise InvalidParameter("unsupported digest algorithm")
    if len(value) != _DIGEST_SIZES[algorithm]:
        raise InvalidParameter("invalid checksum digest length")
    if not re.fullmatch("[a-f0-9]+", value):
        raise InvalidParameter("invalid checksum digest format")


def _is_valid_digest(text: str) -> bool:
    try:
        check_digest(text)
    except InvalidParameter:
        return False
    return True


def is_digest(text: str) -> bool:
    """*text* is an image id in full: ``sha256:<64 hex>``."""
    return re.fullmatch("sha256:[a-f0-9]{64}", text) is not None


def is_identifier(text: str) -> bool:
    """*text* is an image id without its algorithm."""
    return _IDENTIFIER.fullmatch(text) is not None


def parse_repository(repo: str, tag: str) -> Reference:
    """A name to give to an image (``tag``, ``import``, ``commit``): *repo* and *tag* apart.

    Raises ``InvalidParameter``; a digest is refused.
    """
    reference = parse(repo)
    if reference.digest:
        raise InvalidParameter("cannot import digest reference")
    if tag:
        if not _TAG_ONLY.fullmatch(tag):
            raise InvalidParameter("invalid tag format")
        return replace(reference, tag=tag)
    return reference.with_default_tag()


def parse_pulled(image: str, tag: str) -> Reference:
    """What ``fromImage`` and ``tag`` of a pull name; *tag* may be a digest. Raises ``InvalidParameter``."""
    reference = parse(image)
    if not tag:
        return reference
    if _is_valid_digest(tag):
        return replace(reference, tag="", digest=tag)
    if not _TAG_ONLY.fullmatch(tag):
        raise InvalidParameter("invalid tag format")
    return replace(reference, tag=tag)


__all__ = [
    "Reference",
    "check_digest",
    "is_digest",
    "is_identifier",
    "parse",
    "parse_pulled",
    "parse_repository",
]
