"""Running a registered helper in this process, as a program or as a forked child."""

from __future__ import annotations

import sys

import msgspec

from reexec.call import Call
from reexec.registry import find
from services.protocol.errors import to_failure
from services.protocol.helpers import HelperExit


def run(call: Call) -> HelperExit:
    """*call* to its end; every exception becomes a failure with status 1."""
    try:
        result = find(call.argv[0])(call)
    except Exception as error:
        return HelperExit(1, failure=to_failure(error))
    if isinstance(result, bytes):
        return HelperExit(0, result)
    return HelperExit(result or 0)


def run_by_hand(call: Call) -> int:
    """*call* as a program: its failure and its result (as JSON) go to standard error."""
    ended = run(call)
    if ended.failure is not None:
        print(f"{call.argv[0]}: {ended.failure.message}", file=sys.stderr)
    elif ended.result:
        print(msgspec.json.encode(msgspec.msgpack.decode(ended.result)).decode(), file=sys.stderr)
    return ended.status
