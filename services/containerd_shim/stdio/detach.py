"""The keys that leave a terminal without ending it (moby's pkg ``term/proxy.go`` and ``ascii.go``)."""

from __future__ import annotations

from services.protocol.errors import InvalidParameter

DEFAULT = b"\x10\x11"  # ctrl-p, ctrl-q
_CONTROLS = {**{chr(96 + n): n for n in range(1, 27)}, "@": 0, "[": 27, "\\": 28, "]": 29, "^": 30, "_": 31}


def parse(text: str) -> bytes:
    """``ctrl-x,y`` as the bytes a terminal sends; "" is the default. Raises :class:`InvalidParameter`."""
    if not text:
        return DEFAULT
    keys = bytearray()
    for name in text.split(","):
        if len(name) == 1 and name.isascii():
            keys += name.encode()
        elif name.startswith("ctrl-") and name[5:] in _CONTROLS:
            keys.append(_CONTROLS[name[5:]])
        else:
            raise InvalidParameter(f"Invalid detach keys ({text}) provided")
    return bytes(keys)


class DetachFilter:
    """Input without the detach sequence; a sequence that has begun is held back until it is decided."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._matched = 0

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """(what to pass on, whether the whole sequence has come; what follows it is dropped)."""
        if not self._matched and self._keys[0] not in data:
            return data, False
        out = bytearray()
        for byte in data:
            if byte == self._keys[self._matched]:
                self._matched += 1
                if self._matched == len(self._keys):
                    return bytes(out), True
                continue
            if self._matched:
                out += self._keys[: self._matched]
                self._matched = 0
                if byte == self._keys[0]:
                    self._matched = 1
                    continue
            out.append(byte)
        return bytes(out), False

    def held(self) -> bytes:
        """What is held back, when no more input comes."""
        held, self._matched = self._keys[: self._matched], 0
        return held
