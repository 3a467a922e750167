"""``docker-logs``: the log of a container that has no shim, to the client's connection."""

from __future__ import annotations

import sys
import time

from reexec.call import Call
from reexec.registry import register
from services.containerd_shim.logdrivers.files import LogFiles
from services.containerd_shim.logdrivers.reader import LogReader
from services.containerd_shim.logdrivers.render import Renderer
from services.containerd_shim.logdrivers.sink import FORMATS
from services.protocol.errors import Unimplemented
from services.protocol.shim import StoppedLogs


@register("docker-logs")
def main(call: Call) -> int:
    """``argv[1]`` is a :class:`StoppedLogs`; there is nothing to follow."""
    wanted = call.document(StoppedLogs)
    if wanted.driver not in FORMATS:
        raise Unimplemented("configured logging driver does not support reading")
    stream = call.stream()
    reader = LogReader(LogFiles(wanted.path), wanted.request.tail)
    renderer = Renderer(FORMATS[wanted.driver]({}), wanted.request)
    try:
        records = reader.read()  # before the delay, in which the log may be removed
        time.sleep(wanted.request.delay)
        while records and not renderer.done:
            stream.write(renderer.render(records))
            records = reader.read()
        stream.close()
    except (BrokenPipeError, ConnectionResetError):
        print("the client has gone", file=sys.stderr)
        return 1
    finally:
        reader.close()
    return 0
