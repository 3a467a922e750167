"""Verbs on images. Progress items are the JSON documents of Docker's ``jsonmessage``."""

from __future__ import annotations

import msgspec

from services.protocol.api import images as api
from services.protocol.api.containers import Config
from services.protocol.fdpass import Handover
from services.protocol.verbs import Filters, Nothing, StreamVerb, Verb


class ListArgs(msgspec.Struct, frozen=True):
    all: bool = False
    filters: dict[str, list[str]] = {}
    shared_size: bool = False


class InspectArgs(msgspec.Struct, frozen=True):
    """With ``platform`` (``os/architecture/variant``) an image of another one is not found."""

    ref: str
    platform: str = ""


class HistoryArgs(msgspec.Struct, frozen=True):
    """``platform`` as in :class:`InspectArgs`."""

    ref: str
    platform: str = ""


class TagArgs(msgspec.Struct, frozen=True):
    ref: str
    repo: str
    tag: str = ""


class RemoveArgs(msgspec.Struct, frozen=True):
    ref: str
    force: bool = False
    no_prune: bool = False
    platforms: list[str] = []


class LoadArgs(msgspec.Struct, frozen=True):
    """The archive is the request's descriptor ticket (the reading end of a pipe or a file)."""

    quiet: bool = False
    platform: str = ""


class ImportArgs(msgspec.Struct, frozen=True):
    """The archive is the request's descriptor ticket, or at the URL ``source``.

    ``changes`` are Dockerfile instructions.
    """

    repo: str = ""
    tag: str = ""
    message: str = ""
    changes: list[str] = []
    platform: str = ""
    source: str = ""


class PullArgs(msgspec.Struct, frozen=True):
    image: str
    tag: str = ""
    platform: str = ""
    auth: str = ""
    all_tags: bool = False


class PushArgs(msgspec.Struct, frozen=True):
    name: str
    tag: str = ""
    platform: str = ""
    auth: str = ""


class AuthArgs(msgspec.Struct, frozen=True):
    """``server_address`` is a registry's host, or "" for Docker Hub."""

    username: str = ""
    password: str = ""
    server_address: str = ""
    identity_token: str = ""


class AuthReply(msgspec.Struct, frozen=True):
    status: str
    identity_token: str = ""


class DistributionArgs(msgspec.Struct, frozen=True):
    """``auth`` is ``X-Registry-Auth``."""

    name: str
    auth: str = ""


class SearchArgs(msgspec.Struct, frozen=True):
    """``limit`` 0 is the default; ``auth`` is ``X-Registry-Auth``."""

    term: str
    limit: int = 0
    filters: dict[str, list[str]] = {}
    auth: str = ""


class SaveArgs(msgspec.Struct, frozen=True):
    names: list[str]
    platform: str = ""


class Resolved(msgspec.Struct, frozen=True):
    id: str
    config: Config


LIST = Verb("images.list", ListArgs, list[api.ImageSummary])
INSPECT = Verb("images.inspect", InspectArgs, api.ImageInspect)
HISTORY = Verb("images.history", HistoryArgs, list[api.HistoryItem])
TAG = Verb("images.tag", TagArgs, Nothing)
REMOVE = Verb("images.remove", RemoveArgs, list[api.DeleteItem])
PRUNE = Verb("images.prune", Filters, api.ImagePruneReply)
LOAD = StreamVerb("images.load", LoadArgs, bytes)
IMPORT = StreamVerb("images.import", ImportArgs, bytes)
PULL = StreamVerb("images.pull", PullArgs, bytes)
PUSH = StreamVerb("images.push", PushArgs, bytes)
AUTH = Verb("registry.auth", AuthArgs, AuthReply)
#: The answer is a JSON document, which only the client reads.
DISTRIBUTION = Verb("registry.distribution", DistributionArgs, bytes)
SEARCH = Verb("registry.search", SearchArgs, bytes)
SAVE = Verb("images.save", SaveArgs, Handover)
