"""The output of an exec, for the engine itself: only for small ones (health checks).

The one place where bytes of a container reach the engine; they come as to any client, over a
connection that is handed to the shim.
"""

from __future__ import annotations

import asyncio
import os
import socket

import msgspec

from services.engine.containers.model import Exec
from services.engine.containers.services import Services
from services.protocol import fdpass
from services.protocol.errors import Unavailable, from_failure
from services.protocol.shim import Attach


async def capture(services: Services, exec_: Exec, output: bytearray, limit: int) -> None:
    """Start the prepared *exec_* and fill *output* with up to *limit* bytes; returns at its end."""
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            path = services.exec_root.shim_socket(exec_.container_id)
            # A thread goes on although the check is given up, so it has a descriptor of its own.
            await asyncio.to_thread(_hand_over, path, exec_, theirs.dup())
        ours.setblocking(False)
        await _read(ours, output, limit)


def _hand_over(path: os.PathLike[str], exec_: Exec, client: socket.socket) -> None:
    """Closes *client*."""
    attach = Attach(exec_id=exec_.id, stdout=True, stderr=True, multiplexed=False, start=True)
    with client, fdpass.connect(str(path)) as connection:
        envelope = fdpass.HandoverEnvelope(payload=msgspec.msgpack.encode(attach))
        try:
            fdpass.send(connection, envelope, [client.fileno()])
            client.close()
            acknowledgement, fds = fdpass.receive(connection, fdpass.HandoverAck)
        except OSError as error:  # the shim has died with the message unread (unix(7))
            raise Unavailable(f"the exec could not be started: {error}") from error
    for passed in fds:
        os.close(passed)
    if acknowledgement.failure is not None:
        raise from_failure(acknowledgement.failure)


async def _read(ours: socket.socket, output: bytearray, limit: int) -> None:
    loop = asyncio.get_running_loop()
    while True:
        try:
            data = await loop.sock_recv(ours, 65536)
        except OSError as error:
            raise Unavailable(f"output of the exec was lost: {error}") from error
        if not data:
            return
        output += data[: limit - len(output)]
