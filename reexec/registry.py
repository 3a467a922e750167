"""Name -> function. A helper is a function of a :class:`~reexec.call.Call`::

    @register("docker-untar")
    def main(call: Call) -> int | bytes | None:
        ...

It returns an exit status, or the msgpack bytes of its result (status 0), or None (status 0), and
raises :class:`~services.protocol.errors.WharfError` to fail. Where a helper lives is in
:data:`HELPERS`, so that running one imports that one only, and the zygote can import all.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable

from reexec.call import Call
from services.protocol.errors import NotFound

Main = Callable[[Call], int | bytes | None]

#: name -> module that registers it when imported; named and not imported here, wherever it lives.
HELPERS: dict[str, str] = {
    "docker-adoptlayer": "reexec.helpers.adoptlayer",
    "docker-applylayer": "reexec.helpers.applylayer",
    "docker-buildcopy": "reexec.helpers.buildcopy",
    "docker-buildfind": "reexec.helpers.buildfind",
    "docker-buildstubs": "reexec.helpers.buildstubs",
    "docker-changes": "reexec.helpers.changes",
    "docker-copytree": "reexec.helpers.copytree",
    "docker-copyup": "reexec.helpers.copyup",
    "docker-difference": "reexec.helpers.difference",
    "docker-download": "reexec.helpers.download",
    "docker-git": "reexec.helpers.git",
    "docker-init": "reexec.helpers.init",
    "docker-initlayer": "reexec.helpers.initlayer",
    "docker-load": "reexec.helpers.load",
    "docker-login": "reexec.helpers.login",
    "docker-logs": "services.containerd_shim.logdrivers.helper",
    "docker-mkdir": "reexec.helpers.mkdir",
    "docker-mountfrom": "reexec.helpers.mountfrom",
    "docker-proxy": "reexec.helpers.proxy",
    "docker-pull-blob": "reexec.helpers.pull",
    "docker-pull-manifest": "reexec.helpers.pull",
    "docker-pull-tags": "reexec.helpers.pull",
    "docker-push-blob": "reexec.helpers.push",
    "docker-push-manifest": "reexec.helpers.push",
    "docker-push-pack": "reexec.helpers.push",
    "docker-push-probe": "reexec.helpers.push",
    "docker-remove": "reexec.helpers.remove",
    "docker-save": "reexec.helpers.save",
    "docker-search": "reexec.helpers.search",
    "docker-size": "reexec.helpers.size",
    "docker-stat": "reexec.helpers.stat",
    "docker-tar": "reexec.helpers.tar",
    "docker-untar": "reexec.helpers.untar",
}

_registered: dict[str, Main] = {}


def register(name: str) -> Callable[[Main], Main]:
    """Put the decorated function into the registry; a name that is taken raises ``ValueError``."""

    def add(main: Main) -> Main:
        if name in _registered:
            raise ValueError(f"reexec helper {name} is registered twice")
        _registered[name] = main
        return main

    return add


def find(name: str) -> Main:
    """The function registered as *name*; raises :class:`NotFound` for any other name."""
    if name not in _registered and name in HELPERS:
        importlib.import_module(HELPERS[name])
    try:
        return _registered[name]
    except KeyError:
        raise NotFound(f"{name} is not a registered helper") from None
