"""Resource limits of a process (setrlimit(2))."""

from __future__ import annotations

import resource
from collections.abc import Sequence

from services.containerd_shim.runtime import failures
from services.protocol import oci

#: Names that Python's resource module has no constant for (asm-generic/resource.h).
_NUMBERS = {"RLIMIT_LOCKS": 10}
_INFINITY = (1 << 64) - 1


def parse(limits: Sequence[oci.Rlimit]) -> list[tuple[int, int, int]]:
    """(number, soft, hard); -1 is unlimited. Raises SystemError_ for an unknown name."""
    parsed = []
    for limit in limits:
        number = _NUMBERS.get(limit.type, getattr(resource, limit.type, None))
        if not limit.type.startswith("RLIMIT_") or number is None:
            raise failures.invalid(f"wrong rlimit value: {limit.type}")
        parsed.append((number, _value(limit.soft), _value(limit.hard)))
    return parsed


def _value(number: int) -> int:
    return resource.RLIM_INFINITY if number in (-1, _INFINITY) else number


def apply(limits: Sequence[tuple[int, int, int]]) -> None:
    """Without CAP_SYS_RESOURCE a hard limit cannot be raised: an error, as with runc."""
    for number, soft, hard in limits:
        try:
            resource.setrlimit(number, (soft, hard))
        except (OSError, ValueError) as error:
            reason = "operation not permitted" if "not allowed" in str(error) else "invalid argument"
            raise failures.StartError(
                f"error setting rlimits for ready process: error setting rlimit type {number}: {reason}"
            ) from error
