"""Verbs on networks."""

from __future__ import annotations

import msgspec

from services.protocol.api import networks as api
from services.protocol.verbs import Filters, Nothing, Ref, Verb


class InspectArgs(msgspec.Struct, frozen=True):
    ref: str
    verbose: bool = False
    scope: str = ""
    status: bool = False


class ConnectArgs(msgspec.Struct, frozen=True):
    ref: str
    request: api.ConnectRequest


class DisconnectArgs(msgspec.Struct, frozen=True):
    ref: str
    request: api.DisconnectRequest


LIST = Verb("networks.list", Filters, list[api.NetworkInspect])
INSPECT = Verb("networks.inspect", InspectArgs, api.NetworkInspect)
CREATE = Verb("networks.create", api.NetworkCreateRequest, api.NetworkCreateReply)
REMOVE = Verb("networks.remove", Ref, Nothing)
CONNECT = Verb("networks.connect", ConnectArgs, Nothing)
DISCONNECT = Verb("networks.disconnect", DisconnectArgs, Nothing)
PRUNE = Verb("networks.prune", Filters, api.NetworkPruneReply)
