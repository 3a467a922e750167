"""Instructions that change the configuration, build arguments, ``.dockerignore``, file patterns."""

from __future__ import annotations

import functools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reexec.helpers.patterns import compile_pattern
from services.engine.builder.arguments import Arguments
from services.engine.builder.copying import absolute
from services.engine.builder.ignore import Ignore
from services.engine.dockerfile.healthcheck import go_duration
from services.engine.dockerfile.instructions import single
from services.engine.dockerfile.settings import SETTINGS
from services.engine.dockerfile.target import Target
from services.engine.dockerfile.words import expand
from services.protocol.api.containers import Config
from services.protocol.errors import InvalidParameter


def apply(target: Target, line: str) -> str:
    step = single(line)
    return SETTINGS[step.name](target, step, functools.partial(expand, env=target.environment()))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("ENV A=1 B='x y'", "ENV A=1 B=x y"),
        ("LABEL a=b", "LABEL a=b"),
        ('CMD ["a", "b\\"c"]', 'CMD ["a" "b\\"c"]'),
        ("CMD a b", 'CMD ["/bin/sh" "-c" "a b"]'),
        ("EXPOSE 90-91/UDP 80", "EXPOSE 80 90-91/UDP"),
        ("EXPOSE 127.0.0.1:1-2:3/udp", "EXPOSE 127.0.0.1:1-2:3/udp"),
        ("CMD []", "CMD []"),
        ("ENTRYPOINT", "ENTRYPOINT []"),
        ('CMD ["a\\tb", "\\u00e9"]', 'CMD ["a\\tb" "é"]'),
        (
            "HEALTHCHECK --interval=x none",
            "HEALTHCHECK &{Test:[NONE] Interval:0s Timeout:0s StartPeriod:0s StartInterval:0s Retries:0}",
        ),
        ("VOLUME /a /b", "VOLUME [/a /b]"),
        ('SHELL ["a", "-c"]', "SHELL [a -c]"),
        ("USER ${HOME:-nobody}", "USER nobody"),
        ("WORKDIR ../x/./y", "WORKDIR /x/y"),
        ("WORKDIR //x/", "WORKDIR /x"),
        (
            "HEALTHCHECK --interval= --retries= CMD true",
            "HEALTHCHECK &{Test:[CMD-SHELL true] Interval:0s Timeout:0s StartPeriod:0s StartInterval:0s "
            "Retries:0}",
        ),
        (
            "HEALTHCHECK --interval=90s CMD true",
            "HEALTHCHECK &{Test:[CMD-SHELL true] Interval:1m30s Timeout:0s StartPeriod:0s StartInterval:0s "
            "Retries:0}",
        ),
    ],
)
def test_words_for_the_history(line: str, words: str) -> None:
    assert apply(Target(), line) == words


def test_env_replaces_in_place() -> None:
    target = Target(Config(env=["PATH=/bin", "A=1"]))
    apply(target, "ENV PATH=$PATH:/x B=2")
    assert target.config.env == ["PATH=/bin:/x", "A=1", "B=2"]


def test_entrypoint_drops_an_inherited_command_only() -> None:
    inherited = Target(Config(cmd=["old"]))
    apply(inherited, "ENTRYPOINT x")
    assert inherited.config.cmd is None
    own = Target()
    apply(own, "CMD mine")
    apply(own, "ENTRYPOINT x")
    assert own.config.cmd == ["/bin/sh", "-c", "mine"]


@pytest.mark.parametrize(
    "line", ["EXPOSE 1/abc", "EXPOSE 70000", "EXPOSE 9-8", "EXPOSE x", "STOPSIGNAL NOPE", "WORKDIR ''"]
)
def test_values_are_checked(line: str) -> None:
    with pytest.raises(InvalidParameter):
        apply(Target(), line)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0s"),
        (1, "1ns"),
        (1500, "1.5µs"),
        (2_000_000, "2ms"),
        (1_500_000_000, "1.5s"),
        (3600 * 10**9, "1h0m0s"),
    ],
)
def test_go_duration(value: int, text: str) -> None:
    assert go_duration(value) == text


def test_arguments_are_seen_where_they_are_declared() -> None:
    arguments = Arguments({"given": "g", "http_proxy": "p", "unknown": "u", "empty": None})
    arguments.declare_meta("meta", "m")
    assert arguments.for_from() == {"meta": "m", "http_proxy": "p"}
    arguments = arguments.of_stage()
    assert arguments.visible() == {"http_proxy": "p"}
    for name, default in (("given", "d"), ("meta", None), ("own", "o"), ("empty", None)):
        arguments.declare(name, default)
    assert arguments.visible() == {"given": "g", "meta": "m", "own": "o", "http_proxy": "p"}
    arguments = arguments.of_stage()
    assert "given" not in arguments.visible()
    assert arguments.unused() == ["unknown"]


@pytest.mark.parametrize(
    ("text", "path", "excluded"),
    [
        ("a", "a", True), ("a", "a/b", True), ("a", "ab", False), ("*.txt", "x.txt", True),
        ("*.txt", "a/x.txt", False), ("**/*.txt", "a/b/x.txt", True), ("**/*.txt", "x.txt", True),
        ("*\n!a", "a", False), ("*\n!a", "b", True), ("a\n!a/b", "a/b", False), ("a\n!a/b", "a/c", True),
        ("# a", "a", False), ("/a/", "a", True), ("./a", "a", True), ("a/**", "a/b/c", True),
        ("!a\na", "a", True), ("a?c", "abc", True), ("a?c", "a/c", False), ("[ab]", "b", True),
    ],
)  # fmt: skip
def test_ignore_file(text: str, path: str, excluded: bool) -> None:
    assert Ignore(text).excludes(path) is excluded


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("*", ".hidden", True), ("*", "a/b", False), ("[^a]", "b", True), ("[^a]", "/", False),
        ("[a-c]x", "bx", True), ("a\\*", "a*", True), ("a\\*", "ab", False), ("*.t", "x.t", True),
        ("a/*/c", "a/b/c", True), ("[]a]", "]", True),
    ],
)  # fmt: skip
def test_patterns(pattern: str, path: str, matches: bool) -> None:
    assert compile_pattern(pattern)(path) is matches


@pytest.mark.parametrize("pattern", ["[", "[a", "[]", "a\\", "[b-a]"])
def test_broken_patterns(pattern: str) -> None:
    with pytest.raises(InvalidParameter, match="syntax error in pattern"):
        compile_pattern(pattern)


@given(st.text(st.characters(exclude_characters="*?[\\"), max_size=20))
def test_a_plain_name_matches_itself(name: str) -> None:
    assert compile_pattern(name)(name)


@pytest.mark.parametrize(
    ("destination", "path"),
    [
        ("x", "/w/x"),
        (".", "/w/"),
        ("./", "/w/"),
        ("/a/", "/a/"),
        ("../a", "/a"),
        ("/", "/"),
        ("a/.", "/w/a/"),
    ],
)
def test_destinations(destination: str, path: str) -> None:
    assert absolute("/w", destination) == path
