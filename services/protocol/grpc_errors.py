"""WharfError across gRPC: the status code for readers, the kind and exit code in the trailers.

The code alone would lose kinds (several share one in :data:`GRPC_CODES` of other systems) and the
exit code of a process that could not be executed.
"""

from __future__ import annotations

from typing import Any, cast

import grpc
import grpc.aio

from services.protocol.errors import (
    GRPC_CODES,
    ErrorKind,
    Failure,
    Unavailable,
    WharfError,
    from_failure,
    to_failure,
)

_KIND = "wharfd-kind"
_EXIT_CODE = "wharfd-exit-code"
#: Octets of a text on the wire. gRPC drops a call whose trailers come to more than 8 KiB, and the
#: caller would take the error for a broken connection.
_LIMIT = 6144
_CUT = "... (cut)"
_CODES = {code.value[0]: code for code in grpc.StatusCode}


def to_status(error: BaseException) -> tuple[grpc.StatusCode, str, tuple[tuple[str, str], ...]]:
    """(code, details, trailing metadata) for ``context.abort``."""
    failure = to_failure(error)
    trailers = [(_KIND, failure.kind.value)]
    if failure.exit_code is not None:
        trailers.append((_EXIT_CODE, str(failure.exit_code)))
    return _CODES[GRPC_CODES[failure.kind]], _bounded(failure.message), tuple(trailers)


def _bounded(message: str) -> str:
    """*message*, or as much of its beginning as the trailers hold: it may name a command of any length."""
    size = 0
    for index, character in enumerate(message):
        # gRPC percent-encodes what is not printable ASCII: three octets for one.
        octets = character.encode(errors="replace")
        size += sum(1 if 0x20 <= octet <= 0x7E and octet != 0x25 else 3 for octet in octets)
        if size > _LIMIT:
            return message[:index] + _CUT
    return message


def is_lost(error: grpc.aio.AioRpcError) -> bool:
    """The connection broke: nobody knows whether the call was carried out."""
    return error.code() is grpc.StatusCode.UNAVAILABLE and _KIND not in dict(
        cast("Any", error.trailing_metadata()) or ()
    )


def from_rpc_error(error: grpc.aio.AioRpcError) -> WharfError:
    """The error that was raised on the other side; a broken connection is ``Unavailable``."""
    trailers: dict[str, Any] = dict(cast("Any", error.trailing_metadata()) or ())
    kind, exit_code = trailers.get(_KIND), trailers.get(_EXIT_CODE)
    message = error.details() or error.code().name
    if kind is None:
        return Unavailable(f"containerd-shim: {message}")
    return from_failure(
        Failure(ErrorKind(str(kind)), message, int(exit_code) if exit_code is not None else None)
    )
