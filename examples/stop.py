"""``make stop``: SIGTERM to the daemon of ``make run``, and wait for its end."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
from pathlib import Path

PID_FILE = Path("/run/wharfd/wharfd.pid")
#: Seconds; the daemon gives its containers 15.
TIMEOUT = 60


def main() -> int:
    try:
        pid = int(PID_FILE.read_text())
        process = os.pidfd_open(pid)
        title = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ValueError, ProcessLookupError):
        title = b""
    if b"wharfd" not in title:
        print("wharfd is not running")
        return 0
    print("wharfd stops, and its containers first", flush=True)
    with contextlib.suppress(ProcessLookupError):  # it has just ended
        signal.pidfd_send_signal(process, signal.SIGTERM)
    ended, _, _ = select.select([process], [], [], TIMEOUT)
    if not ended:
        print(f"wharfd (pid {pid}) has not ended within {TIMEOUT} s", file=sys.stderr)
        return 1
    print("wharfd has stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
