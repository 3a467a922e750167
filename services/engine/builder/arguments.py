"""Build arguments: given on the command line, declared by ARG, visible from there to the stage's end."""

from __future__ import annotations

import copy
from collections.abc import Mapping

from services.engine.builder.options import EPOCH
from services.engine.dockerfile.instructions import Instruction

_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
#: May be given without being declared; they are in no history and no cache key.
PREDEFINED = frozenset(_PROXIES) | {name.lower() for name in _PROXIES}


class Arguments:
    """``given`` are the command line's (None: a name without a value)."""

    def __init__(self, given: Mapping[str, str | None]) -> None:
        self._given = dict(given)
        self._meta: dict[str, str | None] = {}
        self._stage: dict[str, str | None] = {}
        self._used: set[str] = set()

    def of_stage(self) -> Arguments:
        """For one stage: what it declares is seen there alone, but counts as used."""
        own = copy.copy(self)
        own._stage = {}
        return own

    def mention(self, step: Instruction) -> None:
        """A step that is not executed: what it declares is used all the same."""
        if step.name == "arg":
            self._used.update(word.partition("=")[0] for word in step.args)

    def declare_meta(self, name: str, default: str | None) -> None:
        """An ARG before the first FROM."""
        self._meta[name] = default
        self._used.add(name)

    def declare(self, name: str, default: str | None) -> None:
        self._stage[name] = default if default is not None else self._meta_value(name)
        self._used.add(name)

    def _meta_value(self, name: str) -> str | None:
        given = self._given.get(name)
        return given if given is not None else self._meta.get(name)

    def for_from(self) -> dict[str, str]:
        """What FROM may use."""
        names = [*self._meta, *(name for name in self._given if name in PREDEFINED)]
        values = {name: self._meta_value(name) for name in names}
        return {name: value for name, value in values.items() if value is not None}

    def visible(self) -> dict[str, str]:
        """Values in this stage, declared or predefined."""
        found: dict[str, str] = {}
        for name in [*self._stage, *(n for n in self._given if n in PREDEFINED)]:
            given = self._given.get(name)
            value = given if given is not None else self._stage.get(name)
            if value is not None:
                found[name] = value
        return found

    def declared(self, name: str) -> bool:
        return name in self._stage

    def unused(self) -> list[str]:
        """Given, but neither declared anywhere nor predefined."""
        known = {*PREDEFINED, EPOCH}
        return sorted(name for name in self._given if name not in self._used and name not in known)
