"""The verb of ``docker build``."""

from __future__ import annotations

import msgspec

from services.protocol.api.base import Model
from services.protocol.api.containers import Ulimit
from services.protocol.verbs import StreamVerb, Verb


class BuildArgs(msgspec.Struct, frozen=True, kw_only=True):
    """Query of ``POST /build``; the context (a tar stream) is the request's descriptor ticket.

    A build argument without a value is None. Sizes in bytes, CPU times in microseconds.
    """

    tags: list[str] = []
    dockerfile: str = "Dockerfile"
    build_args: dict[str, str | None] = {}
    labels: dict[str, str] = {}
    target: str = ""
    no_cache: bool = False
    cache_from: list[str] = []
    quiet: bool = False
    remove: bool = True
    force_remove: bool = False
    network_mode: str = ""
    extra_hosts: list[str] = []
    memory: int = 0
    memory_swap: int = 0
    cpu_shares: int = 0
    cpu_period: int = 0
    cpu_quota: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    shm_size: int = 0
    ulimits: list[Ulimit] = []
    cgroup_parent: str = ""
    platform: str = ""
    isolation: str = ""
    security_opt: list[str] = []
    squash: bool = False
    remote: str = ""
    pull: bool = False
    #: ``X-Registry-Config``: accounts by registry, as the client sent them.
    registry_config: str = ""


class PruneArgs(msgspec.Struct, frozen=True, kw_only=True):
    """``all``: also the entries of images that are there for another reason. Spaces in bytes, 0 is none."""

    all: bool = False
    reserved_space: int = 0
    max_used_space: int = 0
    min_free_space: int = 0
    filters: dict[str, list[str]] = {}


class PruneReply(Model, kw_only=True):
    """Of ``POST /build/prune``."""

    caches_deleted: list[str] | None = None
    space_reclaimed: int = 0


PRUNE = Verb("builder.prune", PruneArgs, PruneReply)
BUILD = StreamVerb("builder.build", BuildArgs, bytes)
