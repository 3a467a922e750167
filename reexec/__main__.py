"""``python -m reexec docker-untar ...``: a helper without its symlink; alone: install the links."""

from __future__ import annotations

import sys
from pathlib import Path

from reexec.dispatch import install, run_as

if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] == "--install":
        install(Path(sys.argv[2]))
    elif len(sys.argv) > 1:
        sys.exit(run_as(sys.argv[1:]))
    else:
        sys.exit("usage: python -m reexec HELPER ARGUMENT... | --install DIRECTORY")
