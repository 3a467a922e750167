"""Device rules of a container: those of the spec, and the ones every container has (runc's too)."""

from __future__ import annotations

from collections.abc import Iterable

from services.containerd_shim.runtime.cgroups.base import RefusedError
from services.protocol import oci

#: mknod of anything, then null, zero, full, random, urandom, tty, console, tun, pts, ptmx.
_DEFAULT = [
    oci.DeviceCgroup(allow=True, type="c", access="m"),
    oci.DeviceCgroup(allow=True, type="b", access="m"),
    *(
        oci.DeviceCgroup(allow=True, type="c", major=major, minor=minor)
        for major, minor in (
            (1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (10, 200), (136, None), (5, 2)
        )
    ),
]  # fmt: skip
_ACCESS = "rwm"
_ANY = -1

#: (major, minor, type), by which runc orders what it writes; :data:`_ANY` comes first.
Device = tuple[int, int, str]


def rules_with_defaults(rules: Iterable[oci.DeviceCgroup]) -> list[oci.DeviceCgroup]:
    """*rules* in order, with the defaults after them unless they already allow everything."""
    given = list(rules)
    if given and given[-1].allow and given[-1].type == "a":
        return given
    present = {(rule.type, rule.major, rule.minor, rule.access) for rule in given if rule.allow}
    extra = [rule for rule in _DEFAULT if (rule.type, rule.major, rule.minor, rule.access) not in present]
    return given + extra


def v1_writes(rules: Iterable[oci.DeviceCgroup]) -> list[tuple[str, str]]:
    """(file, text) for each write that makes a devices cgroup of version 1 obey *rules*.

    The kernel keeps whether everything is allowed, and a list of exceptions; so do we here, because it
    takes no exception from an exception: ``RefusedError`` where a rule would be ignored, as with runc.
    """
    allow_all, exceptions = False, dict[Device, set[str]]()
    for rule in rules_with_defaults(rules):
        if rule.type == "a":
            allow_all, exceptions = rule.allow, {}
        elif rule.allow != allow_all:
            exceptions.setdefault(_device(rule), set()).update(set(rule.access) & set(_ACCESS))
        else:
            _take_away(exceptions, rule)
    if not all(exceptions.values()):
        raise RefusedError("resulting devices cgroup doesn't precisely match target")
    whole, other = ("devices.allow", "devices.deny") if allow_all else ("devices.deny", "devices.allow")
    return [(whole, "a")] + [(other, _text(device, exceptions[device])) for device in sorted(exceptions)]


def _device(rule: oci.DeviceCgroup) -> Device:
    major, minor = (_ANY if number is None or number < 0 else number for number in (rule.major, rule.minor))
    return major, minor, rule.type


def _take_away(exceptions: dict[Device, set[str]], rule: oci.DeviceCgroup) -> None:
    device, access = _device(rule), set(rule.access)
    major, minor, kind = device
    for wider in ((_ANY, minor, kind), (major, _ANY, kind), (_ANY, _ANY, kind)):
        if wider != device and exceptions.get(wider, set()) & access:
            raise RefusedError(
                f"requested rule [{_text(device, access)}] not supported by devices cgroupv1 "
                f"(cannot punch hole in existing wildcard rule [{_text(wider, exceptions[wider])}])"
            )
    if device in exceptions:
        exceptions[device] -= access
        if not exceptions[device]:
            del exceptions[device]


def _text(device: Device, access: set[str]) -> str:
    major, minor = ("*" if number == _ANY else number for number in device[:2])
    return f"{device[2]} {major}:{minor} {''.join(letter for letter in _ACCESS if letter in access)}"
