"""Verbs on execs."""

from __future__ import annotations

import msgspec

from services.protocol.api import execs as api
from services.protocol.verbs import Nothing, Ref, Verb
from services.protocol.verbs.containers import ResizeArgs, Stream


class CreateArgs(msgspec.Struct, frozen=True):
    ref: str
    config: api.ExecConfig


class StartArgs(msgspec.Struct, frozen=True):
    ref: str
    start: api.ExecStart


CREATE = Verb("execs.create", CreateArgs, api.IdReply)
#: Detached: started when answered, no hand-over. Attached: the hand-over starts it.
START = Verb("execs.start", StartArgs, Stream)
INSPECT = Verb("execs.inspect", Ref, api.ExecInspect)
RESIZE = Verb("execs.resize", ResizeArgs, Nothing)
