"""Doing something inside a live network namespace, from the engine.

A thread of its own enters the namespace (setns(2) is per thread), makes sockets there and ends; the
sockets keep belonging to the namespace. Nothing is forked, and no pooled thread is left inside.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from services.engine.networks.kernel import write_sysctl
from services.engine.networks.links import Interface, Links, Network

T = TypeVar("T")

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def inside(pid: int, function: Callable[[], T]) -> T:
    """*function* in the network namespace of *pid*; blocking. Raises ``OSError``."""
    result: list[T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            try:
                if _libc.setns(namespace, _CLONE_NEWNET) != 0:
                    code = ctypes.get_errno()
                    raise OSError(code, os.strerror(code))
            finally:
                os.close(namespace)
            result.append(function())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=run, name="in-namespace")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return result[0]


def configure(
    pid: int,
    name: str,
    addresses: Sequence[Interface],
    routes: Sequence[tuple[Network | None, str]] = (),
    sysctls: Mapping[str, str] | None = None,
) -> None:
    """Addresses, up and routes of interface *name* in the namespace of *pid*; without IPv6.

    *sysctls* are written as sysctl(8) names them, with dots.
    """

    def work() -> None:
        # /proc/sys/net is that of the thread's namespace.
        write_sysctl(f"net/ipv6/conf/{name}/disable_ipv6", "1")
        for key, value in (sysctls or {}).items():
            write_sysctl(key.translate(str.maketrans("./", "/.")), value)
        links = Links()
        try:
            links.configure(name, addresses, routes)
        finally:
            links.close()

    inside(pid, work)


def set_default_route(pid: int, name: str, gateway: str) -> None:
    def work() -> None:
        links = Links()
        try:
            links.replace_default(name, gateway)
        finally:
            links.close()

    inside(pid, work)
