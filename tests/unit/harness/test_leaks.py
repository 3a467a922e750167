"""What counts as left behind by tests."""

from __future__ import annotations

from dataclasses import replace

from tests.harness.leaks import Snapshot

NOTHING: frozenset[str] = frozenset()


def test_cgroups_below_those_of_others_are_not_ours() -> None:
    nothing = Snapshot(NOTHING, NOTHING, NOTHING, NOTHING, NOTHING, NOTHING, NOTHING)
    # A hierarchy is a mount, as /proc is.
    before = replace(nothing, cgroups=frozenset({"/proc", "/proc/others"}))
    made = {"/proc/others/command", "/proc/wharfd/container", "/proc/new", "/proc/new/one"}
    assert replace(before, cgroups=before.cgroups | made).gained(before) == [
        "cgroups: /proc/new", "cgroups: /proc/new/one", "cgroups: /proc/wharfd/container",
    ]  # fmt: skip
