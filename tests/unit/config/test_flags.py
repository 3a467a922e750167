"""The command line as dockerd reads it."""

from __future__ import annotations

import pytest

from services.engine.config.flags import UsageError, parse
from services.engine.config.options import OPTIONS
from services.protocol.api.containers import Ulimit
from services.protocol.settings import AddressPool


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ([], {}),
        (["--debug"], {"debug": True}),
        (["--debug=false"], {"debug": False}),
        (["-D", "-H", "unix:///a", "--host=tcp://b"], {"debug": True, "host": ["unix:///a", "tcp://b"]}),
        (["-DHunix:///a"], {"debug": True, "host": ["unix:///a"]}),
        (["-H=unix:///a"], {"host": ["unix:///a"]}),
        (["-Dl", "warn"], {"debug": True, "log-level": "warn"}),
        (["--mtu", "1400", "--mtu=1300"], {"mtu": 1300}),
        (
            ["--log-opt", "max-size=1m", "--log-opt=max-file=2"],
            {"log-opt": {"max-size": "1m", "max-file": "2"}},
        ),
        (["--default-shm-size", "128m"], {"default-shm-size": 128 << 20}),
        (
            ["--default-ulimit", "nofile=10:20"],
            {"default-ulimit": [Ulimit(name="nofile", soft=10, hard=20)]},
        ),
        (
            ["--default-address-pool", "base=10.10.0.0/16,size=24"],
            {"default-address-pool": [AddressPool("10.10.0.0/16", 24)]},
        ),
        (["--icc=0", "--"], {"icc": False}),
    ],
)
def test_understood(argv: list[str], expected: dict[str, object]) -> None:
    assert parse(argv) == expected


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["--nope"], "unknown flag: --nope"),
        (["-x"], "unknown shorthand flag: 'x' in -x"),
        (["-Dx"], "unknown shorthand flag: 'x' in -Dx"),
        (["--host"], "flag needs an argument: --host"),
        (["-H"], "flag needs an argument: 'H' in -H"),
        (["extra"], '"wharfd" accepts no arguments.'),
        (["--debug=maybe"], 'invalid argument "maybe" for "-D, --debug" flag: strconv.ParseBool'),
        (["--mtu=x"], 'invalid argument "x" for "--mtu" flag: strconv.ParseInt: parsing "x": invalid syntax'),
        (["--dns=nowhere"], 'invalid argument "nowhere" for "--dns" flag: nowhere is not an ip address'),
        (["--label=x"], 'invalid argument "x" for "--label" flag: bad attribute format: x'),
        (
            ["--default-shm-size=big"],
            'invalid argument "big" for "--default-shm-size" flag: invalid size: \'big\'',
        ),
        (
            ["--default-ulimit=nofile=2:1"],
            "soft limit must be less than or equal to hard limit: 2 > 1",
        ),
        (["--default-address-pool=base=10.0.0.0/16,size=8"], "does not fit into"),
    ],
)
def test_refused(argv: list[str], text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(argv)
    assert text in str(caught.value)


def test_names_are_unique() -> None:
    for names in (
        [option.flag for option in OPTIONS],
        [option.short for option in OPTIONS if option.short],
        [option.json_key for option in OPTIONS if option.json_key],
        [option.field for option in OPTIONS if option.field],
    ):
        assert len(names) == len(set(names))
