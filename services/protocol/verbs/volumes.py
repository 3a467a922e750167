"""Verbs on volumes."""

from __future__ import annotations

import msgspec

from services.protocol.api import volumes as api
from services.protocol.verbs import Filters, Nothing, Ref, Verb


class RemoveArgs(msgspec.Struct, frozen=True):
    ref: str
    force: bool = False


LIST = Verb("volumes.list", Filters, api.VolumeList)
INSPECT = Verb("volumes.inspect", Ref, api.Volume)
CREATE = Verb("volumes.create", api.VolumeCreateRequest, api.Volume)
REMOVE = Verb("volumes.remove", RemoveArgs, Nothing)
PRUNE = Verb("volumes.prune", Filters, api.VolumePruneReply)
