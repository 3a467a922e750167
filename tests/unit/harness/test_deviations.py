"""Which differences from a transcript count: those that are listed, as they are listed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tests.harness.deviations import Deviation, Played, passes, played, read
from tests.harness.replay import DEVIATIONS, listed

LISTED = Deviation("images/1.t", "b x\n  -a\nb y", "because", ("-old", "+new"))
OUTPUT = """\
ok: /t/images/0.t
--- 1.t: $ b x
  -a
b y
     same
    -old
    +new
1 of 3 differ: /t/images/1.t
--- 2.t: TimeoutError: no answer
2 of 2 differ: /t/images/2.t
"""


def test_output_is_taken_apart() -> None:
    zero, one, two = played(OUTPUT.splitlines(keepends=True))
    assert (zero.path, zero.count) == (Path("/t/images/0.t"), 0)
    assert (one.path, one.count, len(one.differences)) == (Path("/t/images/1.t"), 1, 1)
    assert passes(zero, [LISTED])
    assert passes(one, [LISTED])
    assert not passes(two, [LISTED])


def test_only_what_is_listed_may_differ() -> None:
    _, one, _ = played(OUTPUT.splitlines(keepends=True))
    assert not passes(one, [])
    assert not passes(one, [replace(LISTED, diff=("-old",))])
    assert not passes(one, [replace(LISTED, command="b z")])
    assert not passes(one, [LISTED, replace(LISTED, command="another")])
    assert not passes(Played(one.path, 2, one.differences), [LISTED])


def test_what_differs_no_more_fails() -> None:
    agreed = Played(Path("/t/images/1.t"), 0, [])
    assert not passes(agreed, [LISTED])
    assert passes(agreed, [replace(LISTED, host=True)])


def test_what_differs_sometimes_differs_as_it_is_listed() -> None:
    _, one, _ = played(OUTPUT.splitlines(keepends=True))
    sometimes = replace(LISTED, sometimes=True)
    assert passes(Played(one.path, 0, []), [sometimes])
    assert passes(one, [replace(sometimes, diff=("-old",)), sometimes])
    assert not passes(one, [replace(sometimes, diff=("-old",))])


def test_what_depends_on_the_host_may_differ_in_any_way() -> None:
    _, one, _ = played(OUTPUT.splitlines(keepends=True))
    assert passes(one, [replace(LISTED, host=True, diff=())])


def test_the_list_is_of_transcripts_that_pass_and_gives_reasons() -> None:
    deviations = read(DEVIATIONS)
    assert {one.transcript for one in deviations} <= set(listed())
    assert all(one.reason.endswith(".") and (one.host or one.diff) for one in deviations)
