"""What a helper is told of a registry, and what it tells of it."""

from __future__ import annotations

import msgspec

MANIFEST_V1 = (
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
    "application/vnd.docker.distribution.manifest.v1+json",
)
MANIFEST_V2 = "application/vnd.docker.distribution.manifest.v2+json"
MANIFEST_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
MANIFESTS = (MANIFEST_V2, MANIFEST_LIST, OCI_INDEX, OCI_MANIFEST)
IMAGE_CONFIG = "application/vnd.docker.container.image.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
IMAGE_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"

#: Bytes of the largest manifest and image configuration that are read.
MAX_MANIFEST, MAX_CONFIG = 4 << 20, 8 << 20


class Endpoint(msgspec.Struct, frozen=True):
    """``url`` is ``scheme://host[:port]``. ``verify``: its certificate is checked.

    ``fallback``: any failure of this one leads to the next (a mirror). ``certificates`` is the
    directory of ``certs.d`` with its authorities (``*.crt``) and client certificates (``*.cert``, ``*.key``).
    """

    url: str
    verify: bool = True
    fallback: bool = False
    certificates: str = ""


class Credentials(msgspec.Struct, frozen=True):
    """As in ``X-Registry-Auth``; all empty for none."""

    username: str = ""
    password: str = ""
    identity_token: str = ""
    registry_token: str = ""


class Target(msgspec.Struct, frozen=True):
    """A repository: where to look for it, in this order, and as whom.

    ``authorization`` is the header that an earlier helper was let in with; it is asked for again when
    it has expired. ``sources`` are repositories of the same registry to mount blobs from.
    ``scopes`` are asked of a token server where there is no repository.
    """

    endpoints: list[Endpoint]
    repository: str
    credentials: Credentials = Credentials()
    authorization: str = ""
    push: bool = False
    sources: list[str] = []
    scopes: list[str] = []


class Session(msgspec.Struct, frozen=True):
    """The endpoint that answered, and the header it let us in with."""

    endpoint: Endpoint
    authorization: str
