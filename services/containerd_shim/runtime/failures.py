"""Errors of creating and executing, in runc's words and with Docker's exit codes."""

from __future__ import annotations

from services.protocol.errors import SystemError_, WharfError

PROGRAM_FAILED = 126
PROGRAM_NOT_FOUND = 127
RUNTIME_FAILED = 128

CREATE_PREFIX = "OCI runtime create failed: runc create failed: "
EXEC_PREFIX = "OCI runtime exec failed: exec failed: "
UNABLE = "unable to start container process: "
INIT = "error during container init: "


_NOT_A_DIRECTORY_HINT = (
    ": Are you trying to mount a directory onto a file (or vice-versa)? "
    "Check if the specified host path exists and is the expected type"
)


class StartError(WharfError):
    """A process could not be prepared or executed; the text has no prefix yet."""


def invalid(text: str) -> WharfError:
    """A document that runc refuses before it makes anything."""
    return SystemError_(CREATE_PREFIX + text, exit_code=RUNTIME_FAILED)


def told(text: str, default: int) -> tuple[str, int]:
    """A start error as Docker tells it, and its exit code, both read off the text.

    Source: moby ``daemon/errors.go``. Clients know by "permission denied" that it is 126.
    """
    if "is a directory" in text:
        return f"{text}: permission denied", PROGRAM_FAILED
    if "not a directory" in text:
        return text + _NOT_A_DIRECTORY_HINT, PROGRAM_NOT_FOUND
    if "permission denied" in text:
        return text, PROGRAM_FAILED
    if "no such file or directory" in text or "executable file not found" in text:
        return text, PROGRAM_NOT_FOUND
    return text, default


def os_text(action: str, error: OSError) -> str:
    """``open /x: no such file or directory``, as Go prints a PathError."""
    where = f" {error.filename}" if error.filename else ""
    return f"{action}{where}: {(error.strerror or str(error)).lower()}"


def of_init(error: BaseException, *, is_exec: bool) -> WharfError:
    """What a prepared process raised, with the prefix that runc gives it.

    Errors of another kind than "system" (a user that does not exist) keep their plain text: Docker
    finds those before it calls the runtime.
    """
    if isinstance(error, WharfError) and not isinstance(error, SystemError_ | StartError):
        if is_exec and error.exit_code is None:
            error.exit_code = PROGRAM_FAILED
        return error
    text = error.strerror.lower() if isinstance(error, OSError) and error.strerror else str(error)
    if isinstance(error, ValueError) and "null byte" in text:
        text = "invalid argument"  # Python's word for a NUL in what the kernel would have refused
    if isinstance(error, OSError) and error.filename:
        text = f"{error.filename}: {text}"
    if isinstance(error, WharfError) and text.startswith((CREATE_PREFIX, EXEC_PREFIX)):
        return error
    prefix = EXEC_PREFIX + UNABLE if is_exec else CREATE_PREFIX + UNABLE + INIT
    return _failed(prefix + text, error, is_exec=is_exec)


def of_parent(error: BaseException, *, is_exec: bool) -> WharfError:
    """An error on this side of the fork: cgroups, namespaces to join, a child that vanished."""
    if isinstance(error, WharfError) and not isinstance(error, SystemError_ | StartError):
        return error
    text = os_text("", error).lstrip(": ") if isinstance(error, OSError) else str(error)
    if isinstance(error, WharfError) and text.startswith("OCI runtime"):
        return error
    prefix = EXEC_PREFIX if is_exec else CREATE_PREFIX + UNABLE
    return _failed(prefix + text, error, is_exec=is_exec)


def _failed(text: str, error: BaseException, *, is_exec: bool) -> WharfError:
    code = error.exit_code if isinstance(error, WharfError) else None
    default = code or (PROGRAM_FAILED if is_exec else RUNTIME_FAILED)
    text, code = told(text, default)
    return SystemError_(text, exit_code=code)
