"""Device rules of a container: those of the spec, and the ones every container has (runc's too)."""

from __future__ import annotations

from collections.abc import Iterable

from services.protocol import oci

#: mknod of anything, then null, zero, full, random, urandom, tty, console, pts, ptmx.
_DEFAULT = [
    oci.DeviceCgroup(allow=True, type="c", access="m"),
    oci.DeviceCgroup(allow=True, type="b", access="m"),
    *(
        oci.DeviceCgroup(allow=True, type="c", major=major, minor=minor)
        for major, minor in ((1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (136, None), (5, 2))
    ),
]


def rules_with_defaults(rules: Iterable[oci.DeviceCgroup]) -> list[oci.DeviceCgroup]:
    """*rules* in order, with the defaults after them unless they already allow everything."""
    given = list(rules)
    if given and given[-1].allow and given[-1].type == "a":
        return given
    present = {(rule.type, rule.major, rule.minor, rule.access) for rule in given if rule.allow}
    extra = [rule for rule in _DEFAULT if (rule.type, rule.major, rule.minor, rule.access) not in present]
    return given + extra
