"""Content-addressed files: ``<directory>/<algorithm>/<hex>``, verified, synced, never changed."""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path

from services.protocol.errors import SystemError_


class Blobs:
    """Small documents (image configurations); every call is short and blocking."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory / "sha256"
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def path(self, digest: str) -> Path:
        """Where the blob is, or would be."""
        return self._directory / digest.removeprefix("sha256:")

    def write(self, data: bytes) -> str:
        """Store *data*; what this returns (its digest) is on the disk."""
        digest = hashlib.sha256(data).hexdigest()
        path = self._directory / digest
        fresh = self._directory / f".{digest}.{secrets.token_hex(4)}"
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(fresh, path)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise
        directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
        return f"sha256:{digest}"

    def read(self, digest: str) -> bytes:
        """Raises :class:`SystemError_` when it is missing or not what its name says."""
        try:
            data = self.path(digest).read_bytes()
        except OSError as error:
            raise SystemError_(f"blob {digest} is not readable: {error.strerror}") from error
        if "sha256:" + hashlib.sha256(data).hexdigest() != digest:
            raise SystemError_(f"blob {digest} is damaged")
        return data

    def remove(self, digest: str) -> None:
        self.path(digest).unlink(missing_ok=True)

    def sweep(self, known: set[str]) -> None:
        """Remove everything that is not *known*, unfinished writes too."""
        for path in self._directory.iterdir():
            if f"sha256:{path.name}" not in known:
                path.unlink(missing_ok=True)
