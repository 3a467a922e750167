"""Options of RUN, COPY and ADD: mounts, modes, exclusions."""

from __future__ import annotations

import time

import pytest

from reexec.helpers.modes import parse_mode
from reexec.helpers.patterns import Exclusions
from services.engine.dockerfile.mountflags import RunMount, check_mount, parse_mount
from services.protocol.errors import InvalidParameter


def same(word: str) -> str:
    return word


@pytest.mark.parametrize(
    ("text", "mount"),
    [
        ("target=/x", RunMount(target="/x")),
        ("dst=/x,src=y,rw", RunMount(target="/x", source="y", readonly=False)),
        ("destination=/x,ro=false,from=z", RunMount(target="/x", origin="z", readonly=False)),
        ("Type=CACHE,Target=/x,readonly", RunMount("cache", target="/x", readonly=True)),
        (
            "type=cache,id=a,sharing=Locked,mode=0700,uid=1,gid=2",
            RunMount("cache", id="a", sharing="locked", mode=0o700, uid=1, gid=2),
        ),
        ("type=tmpfs,target=/x,size=1m", RunMount("tmpfs", target="/x", size=1 << 20)),
        ("type=secret,id=a,required,env=B", RunMount("secret", id="a", required=True, env="B")),
        ("type=ssh,required=false", RunMount("ssh")),
        ('target=/x,"source=a,b"', RunMount(target="/x", source="a,b")),
    ],
)
def test_mounts(text: str, mount: RunMount) -> None:
    assert parse_mount(text, same) == mount


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("type=x", 'unsupported mount type "x"'),
        ("required,type=secret", "unexpected key 'required' for mount type 'bind'"),
        ("size=1,type=tmpfs", "unexpected key 'size' for mount type 'bind'"),
        ("env=A", "unexpected key 'env' for mount type 'bind'"),
        ("readonly=perhaps", "invalid value for readonly: perhaps"),
        ("type=cache,mode=9", "invalid value 9 for mode"),
        ("type=cache,uid=-1", "invalid value -1 for uid"),
        ("type=cache,gid=4294967296", "invalid value 4294967296 for gid"),
        ("type=cache,sharing=none", 'unsupported sharing value "none"'),
        ("type=secret", "invalid secret mount. one of source, target required"),
        ("type=secret,id=a,from=b", "secret mount should not have a from"),
        ("type=secret,id=a,sharing=shared", "secret mount should not define sharing"),
        ("type=secret,id=a,source=b", "both source and id can't be set"),
        ('"target', "failed to parse csv mounts"),
        ("", "failed to parse csv mounts: EOF"),
    ],
)
def test_refused_mounts(text: str, message: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        parse_mount(text, same)
    assert message in str(caught.value)


def test_variables_of_mounts() -> None:
    assert parse_mount("type=cache,id=$a,target=/$a", lambda word: word.replace("$a", "v")) == RunMount(
        "cache", id="v", target="/v"
    )
    check_mount("type=cache,id=$a,target=$b")
    with pytest.raises(InvalidParameter, match="'from' doesn't support variable expansion"):
        check_mount("from=x$a")


@pytest.mark.parametrize(
    ("text", "mode", "file", "directory"),
    [
        ("0644", 0o777, 0o644, 0o644),
        ("7777", 0, 0o7777, 0o7777),
        ("u+x", 0o644, 0o744, 0o744),
        ("=r", 0o777, 0o444, 0o444),
        ("a=rX", 0o600, 0o444, 0o555),
        ("a=rX", 0o700, 0o555, 0o555),
        ("u=rw,g=u-w,o=g", 0o777, 0o644, 0o644),
        ("ug+s,o-rwx", 0o755, 0o6750, 0o6750),
        ("u=rwx", 0o4000, 0o700, 0o4700),
        ("+t", 0o755, 0o1755, 0o1755),
    ],
)
def test_modes(text: str, mode: int, file: int, directory: int) -> None:
    change = parse_mode(text)
    assert (change(mode, False), change(mode, True)) == (file, directory)


@pytest.mark.parametrize("text", ["", "8", "77777", "u", "u=z", "q=r", "u=r,,g=r", "+r w"])
def test_refused_modes(text: str) -> None:
    with pytest.raises(InvalidParameter, match="invalid chmod parameter"):
        parse_mode(text)


def test_exclusions() -> None:
    none = Exclusions([])
    assert not none.excludes("a") and not none.has_exceptions
    some = Exclusions(["*.md", "**/b", "!b/c"])
    assert some.has_exceptions
    found = [path for path in ("x.md", "a/x.md", "b", "a/b", "b/d", "b/c", "b/c/d") if some.excludes(path)]
    assert found == ["x.md", "b", "a/b", "b/d"]


@pytest.mark.parametrize(
    "pattern", ["a*" * 12 + "b", "**/" * 12 + "b", "**/a/" * 12 + "b", "**a*" * 12 + "b", "a*/**/" * 12 + "b"]
)
def test_patterns_of_many_wildcards_take_no_time(pattern: str) -> None:
    """A ``.dockerignore`` is the client's, and matched in the engine."""
    began = time.process_time()
    flat, deep = "a" * 200, "/".join("a" * 200)
    assert not Exclusions([pattern]).excludes(flat)
    assert not Exclusions([pattern]).excludes(deep)
    assert Exclusions([pattern]).excludes(f"{deep}/b" if "/" in pattern else f"{flat}b")
    assert time.process_time() - began < 1
