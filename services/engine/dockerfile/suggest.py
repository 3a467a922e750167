"""``(did you mean X?)`` behind a word that is not known (buildkit ``util/suggest``)."""

from __future__ import annotations

from collections.abc import Iterable

#: Edits that still make a likely mistake.
_MAX_DISTANCE = 2


def suggestion(word: str, known: Iterable[str]) -> str:
    """With a space before it; "" where nothing is near."""
    distance, best = min(((_distance(word, one), one) for one in known), default=(_MAX_DISTANCE + 1, ""))
    return f" (did you mean {best}?)" if distance <= _MAX_DISTANCE else ""


def _distance(a: str, b: str) -> int:
    """Levenshtein's."""
    row = list(range(len(b) + 1))
    for i, left in enumerate(a, 1):
        previous, row[0] = row[0], i
        for j, right in enumerate(b, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (left != right))
    return row[-1]
