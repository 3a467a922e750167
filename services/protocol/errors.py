"""The one error taxonomy: a closed set of kinds, raised anywhere, mapped once per boundary.

Kinds follow containerd's ``errdefs`` and moby's ``errdefs`` packages. A boundary has one table:

* gRPC: :data:`GRPC_CODES` here (used by the engine's client and the shim service);
* HTTP: ``services.apiserver.errors``;
* ZeroMQ and unix sockets: the :class:`Failure` struct, which carries kind and text.
"""

from __future__ import annotations

import enum
import os

import msgspec


class ErrorKind(enum.StrEnum):
    """What went wrong, in one word; the text says the rest."""

    NOT_FOUND = "not-found"
    INVALID_PARAMETER = "invalid-parameter"
    CONFLICT = "conflict"
    NOT_MODIFIED = "not-modified"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    UNAVAILABLE = "unavailable"
    NOT_IMPLEMENTED = "not-implemented"
    DEADLINE = "deadline"
    CANCELLED = "cancelled"
    SYSTEM = "system"


#: Characters of the longest text of an error. A client's own value that it quotes may be any length.
MAX_TEXT = 8192


def _cut(text: str) -> str:
    """As a message may carry it: names of files need not be text."""
    text = text.encode(errors="replace").decode()
    return text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + "..."


class Failure(msgspec.Struct, frozen=True):
    """An error as it crosses a process boundary.

    ``exit_code`` is set when the failure is that of a container's process (126 not executable,
    127 not found, 128 other runtime errors), as ``docker run`` reports it.
    """

    kind: ErrorKind
    message: str
    exit_code: int | None = None


class WharfError(Exception):
    """Base of every error that a user may see; ``str(error)`` is the text they read."""

    kind = ErrorKind.SYSTEM

    def __init__(self, message: str, *, exit_code: int | None = None) -> None:
        super().__init__(message)
        self.exit_code = exit_code

    def to_failure(self) -> Failure:
        return Failure(self.kind, _cut(str(self)), self.exit_code)


class SystemError_(WharfError):
    """Something on the host failed: HTTP 500."""


class NotFound(WharfError):
    kind = ErrorKind.NOT_FOUND


class InvalidParameter(WharfError):
    kind = ErrorKind.INVALID_PARAMETER


class Conflict(WharfError):
    kind = ErrorKind.CONFLICT


class NotModified(WharfError):
    """The request asks for the state that already is (HTTP 304)."""

    kind = ErrorKind.NOT_MODIFIED


class Unauthorized(WharfError):
    kind = ErrorKind.UNAUTHORIZED


class Forbidden(WharfError):
    kind = ErrorKind.FORBIDDEN


class Unavailable(WharfError):
    kind = ErrorKind.UNAVAILABLE


class Unreachable(Unavailable):
    """Nobody took the message: nothing has begun, and it may be sent elsewhere."""


class Unimplemented(WharfError):
    """The feature is known by name and not there (HTTP 501)."""

    kind = ErrorKind.NOT_IMPLEMENTED


class DeadlineExceeded(WharfError):
    kind = ErrorKind.DEADLINE


class Cancelled(WharfError):
    kind = ErrorKind.CANCELLED


_BY_KIND: dict[ErrorKind, type[WharfError]] = {
    cls.kind: cls
    for cls in (
        NotFound,
        InvalidParameter,
        Conflict,
        NotModified,
        Unauthorized,
        Forbidden,
        Unavailable,
        Unimplemented,
        DeadlineExceeded,
        Cancelled,
        SystemError_,
    )
}

#: kind -> gRPC status code number (google.rpc.Code); the inverse is computed by the client.
GRPC_CODES: dict[ErrorKind, int] = {
    ErrorKind.CANCELLED: 1,
    ErrorKind.INVALID_PARAMETER: 3,
    ErrorKind.DEADLINE: 4,
    ErrorKind.NOT_FOUND: 5,
    ErrorKind.NOT_MODIFIED: 6,
    ErrorKind.FORBIDDEN: 7,
    ErrorKind.CONFLICT: 9,
    ErrorKind.NOT_IMPLEMENTED: 12,
    ErrorKind.SYSTEM: 13,
    ErrorKind.UNAVAILABLE: 14,
    ErrorKind.UNAUTHORIZED: 16,
}


def from_failure(failure: Failure) -> WharfError:
    """The exception that *failure* was made from; an unknown kind is a system error."""
    return _BY_KIND.get(failure.kind, SystemError_)(failure.message, exit_code=failure.exit_code)


def to_failure(error: BaseException) -> Failure:
    """*error* as a :class:`Failure`; anything outside the taxonomy is of kind ``system``."""
    if isinstance(error, WharfError):
        return error.to_failure()
    if isinstance(error, OSError) and error.errno:
        where = f"{os.fsdecode(error.filename)}: " if error.filename else ""
        text = os.strerror(error.errno)
        return SystemError_(f"{where}{text[:1].lower()}{text[1:]}").to_failure()
    return Failure(ErrorKind.SYSTEM, _cut(str(error)) or type(error).__name__)
