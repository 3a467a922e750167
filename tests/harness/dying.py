"""Stopping at each of an engine's steps in turn, as ``kill -9`` does: nothing of what follows is done."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import pytest

T = TypeVar("T")


class Died(BaseException):
    """The step is not taken."""


class Steps:
    """The methods given to :meth:`watch` raise ``Died`` from the chosen step on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self._left: int | None = None

    def watch(self, owner: object, name: str) -> None:
        original: Callable[..., Any] = getattr(owner, name)

        @functools.wraps(original)
        def step(*arguments: Any, **keywords: Any) -> Any:
            if self._left is not None:
                self._left -= 1
                if self._left <= 0:
                    raise Died
            return original(*arguments, **keywords)

        self._monkeypatch.setattr(owner, name, step)

    def die_at(self, number: int, function: Callable[[], object]) -> bool:
        """*function* up to its *number*-th step; false if it had fewer, and came to its end."""
        self._left = number
        try:
            function()
        except Died:
            return True
        finally:
            self._left = None
        return False
