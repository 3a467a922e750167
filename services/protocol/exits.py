"""Exit statuses that a service and its supervisor agree on."""

from __future__ import annotations

#: A service cannot start, however often it is tried (sysexits.h EX_CONFIG). At the daemon's start
#: the whole daemon then ends, with the reason on standard error.
EXIT_MISCONFIGURED = 78
