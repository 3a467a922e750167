"""What a helper is given: arguments, descriptors by name, and the connection it streams to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from reexec.stream import ClientStream, ClientTarget
from services.protocol.errors import InvalidParameter

T = TypeVar("T")


@dataclass
class Call:
    """One run of a helper.

    ``argv[0]`` is its name. ``fds`` are the passed descriptors by name, owned by the helper's
    process (``stdin``, ``stdout`` and ``stderr`` are 0, 1 and 2 by any way of running it).
    """

    argv: list[str]
    fds: dict[str, int] = field(default_factory=dict)
    target: ClientTarget | None = None

    def document(self, kind: type[T]) -> T:
        """``argv[1]``, a JSON document, as *kind*; raises :class:`InvalidParameter`."""
        if len(self.argv) != 2:
            raise InvalidParameter(f"usage: {self.argv[0]} JSON")
        try:
            return msgspec.json.decode(self.argv[1], type=kind)
        except msgspec.MsgspecError as error:
            raise InvalidParameter(f"{self.argv[0]}: {error}") from error

    def stream(self) -> ClientStream:
        """Begin the output to the client: the handed-over connection, else standard output.

        The hand-over is acknowledged here. A helper that raises before is reported to the client
        as an HTTP error; one that raises later can only cut the stream off.
        """
        if self.target is None:
            self.target = ClientTarget(self.fds.get("stdout", 1))
        return self.target.open()
