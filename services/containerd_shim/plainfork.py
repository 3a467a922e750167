"""fork(2) and nothing else, for single-threaded processes that are forked by the hundred.

``os.fork`` runs what modules have registered to be run around forks (new locks, new seeds): it
makes 0.7 MB of the child its own memory and costs a few tenths of a millisecond. Without threads
there is no lock to renew, and neither shims nor inits use :mod:`random`.
"""

from __future__ import annotations

import ctypes
import os

# PyDLL keeps the interpreter lock: the child goes on with it held, as the parent does.
_fork = ctypes.PyDLL(None, use_errno=True).fork
_fork.argtypes = ()
_fork.restype = ctypes.c_int


def fork() -> int:
    """The child's pid, 0 in the child; raises :class:`OSError`."""
    pid = int(_fork())
    if pid < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return pid
