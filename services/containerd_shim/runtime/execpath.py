"""Finding the program of ``args[0]`` as runc (Go's ``exec.LookPath``) does, with its error texts."""

from __future__ import annotations

import errno
import os
import stat

from services.containerd_shim.runtime.failures import PROGRAM_FAILED, PROGRAM_NOT_FOUND, StartError

_DEFAULT_TEXT = "executable file not found in $PATH"


def find(name: str, env_path: str | None) -> str:
    """The path to execute *name* by, judged with the caller's effective ids and root.

    Raises StartError: 127 when nothing is found, 126 when it cannot be executed.
    """
    if "/" in name:
        _check(name, name)
        return name
    for directory in (env_path or "").split(":"):
        candidate = f"{directory or '.'}/{name}"
        try:
            _check(name, candidate)
        except StartError:
            continue
        return candidate
    raise StartError(f"exec: {_quoted(name)}: {_DEFAULT_TEXT}", exit_code=PROGRAM_NOT_FOUND)


def _check(name: str, path: str) -> None:
    try:
        status = os.stat(path)
    except OSError as error:
        code = PROGRAM_NOT_FOUND if error.errno in (errno.ENOENT, errno.ENOTDIR) else PROGRAM_FAILED
        raise StartError(f"exec: {_quoted(name)}: stat {path}: {_reason(error)}", exit_code=code) from error
    if stat.S_ISDIR(status.st_mode):
        raise StartError(f"exec: {_quoted(name)}: is a directory", exit_code=PROGRAM_FAILED)
    if not os.access(path, os.X_OK, effective_ids=True):
        raise StartError(f"exec: {_quoted(name)}: permission denied", exit_code=PROGRAM_FAILED)


def _quoted(name: str) -> str:
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
