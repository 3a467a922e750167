"""Filters, times, changes and documents of images: nothing that needs a disk."""

from __future__ import annotations

import calendar

import pytest

from services.engine.images.changes import apply_changes
from services.engine.images.gosyntax import go_syntax_error
from services.engine.images.listing import boolean_filter, glob, match_labels
from services.engine.images.loading import web_address
from services.engine.images.model import parse_config, unix_time
from services.engine.images.timestamps import parse_duration, parse_time, rfc3339
from services.engine.layers import chain_ids
from services.engine.volumes import filters as volume_filters
from services.engine.volumes import options
from services.protocol import jsonlines
from services.protocol.api.containers import Config
from services.protocol.errors import InvalidParameter, SystemError_


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        ("local/*", "local/app:v1", True),
        ("*:v1", "local/app:v1", False),
        ("l*/*:v?", "local/app:v1", True),
        ("f:t*", "f:two", True),
        ("[a-c]x", "bx", True),
        ("[^a-c]x", "bx", False),
        ("a\\*", "a*", True),
        ("a.c", "abc", False),
    ],
)
def test_patterns_are_those_of_path_match(pattern: str, text: str, matches: bool) -> None:
    assert (glob(pattern).fullmatch(text) is not None) is matches


@pytest.mark.parametrize("pattern", ["[", "a[", "\\"])
def test_broken_patterns_are_refused(pattern: str) -> None:
    with pytest.raises(InvalidParameter, match="syntax error in pattern"):
        glob(pattern)


def test_labels() -> None:
    labels = {"team": "red", "empty": ""}
    assert match_labels({"label": ["team"]}, labels)
    assert match_labels({"label": ["team=red", "empty"]}, labels)
    assert not match_labels({"label": ["team=red", "other"]}, labels)
    assert not match_labels({"label": ["team="]}, labels)
    assert not match_labels({"label!": ["team=red"]}, labels)
    assert match_labels({"label!": ["team=blue"]}, labels)


def test_points_in_time() -> None:
    assert parse_time("1h30m", 10_000.0) == 10_000.0 - 5400
    assert parse_time("1700000000.5", 0) == 1700000000.5
    assert parse_time("2024-01-01T00:00:00Z", 0) == calendar.timegm((2024, 1, 1, 0, 0, 0))
    assert parse_time("2024-01-01T02:00:00.5+02:00", 0) == calendar.timegm((2024, 1, 1, 0, 0, 0)) + 0.5
    assert parse_time("2024-01-01", 0) == parse_time("2024-01-01T00:00", 0)
    for text in ("yesterday", "soon", "1x", "", "2024-13-01"):
        with pytest.raises(ValueError, match="failed to parse"):
            parse_time(text, 0)
    assert parse_duration("1.5s") == 1.5


def test_times_of_images() -> None:
    assert unix_time("2023-11-14T22:13:20Z") == 1700000000
    assert unix_time("2023-11-14T22:13:20.123456789Z") == pytest.approx(1700000000.123456)
    assert unix_time("nonsense") < 0
    assert rfc3339(1_700_000_000_500_000_000) == "2023-11-14T22:13:20.5Z"
    assert rfc3339(0) == "0001-01-01T00:00:00Z"


def test_chain_ids() -> None:
    """The second one is the OCI specification's formula, computed by sha256sum."""
    first, second = "sha256:" + "1" * 64, "sha256:" + "2" * 64
    chains = chain_ids([first, second])
    assert chains[0] == first
    import hashlib

    assert chains[1] == "sha256:" + hashlib.sha256(f"{first} {second}".encode()).hexdigest()


def test_changes() -> None:
    config = Config()
    apply_changes(
        config,
        [
            'CMD ["cat","/etc/passwd"]',
            'ENV A=1 B="x y"',
            "WORKDIR /tmp",
            "LABEL l=v",
            "EXPOSE 80 90-91/udp",
            "USER nobody",
            "ENTRYPOINT []",
            "VOLUME /data",
            "STOPSIGNAL 9",
            "ONBUILD RUN true",
            "WORKDIR sub",
            "ENV C=$A-${B}",
            "HEALTHCHECK --interval=5s --retries=2 CMD true",
        ],
    )
    assert config.cmd == ["cat", "/etc/passwd"]
    assert config.entrypoint is None
    assert config.env == ["A=1", "B=x y", "C=1-x y"]
    assert config.working_dir == "/tmp/sub"
    assert config.labels == {"l": "v"}
    assert config.exposed_ports == {"80/tcp": {}, "90/udp": {}, "91/udp": {}}
    assert config.user == "nobody"
    assert config.volumes == {"/data": {}}
    assert config.stop_signal == "9"
    assert config.on_build == ["RUN true"]
    assert config.healthcheck.test == ["CMD-SHELL", "true"]
    assert config.healthcheck.interval == 5_000_000_000
    assert config.healthcheck.retries == 2


def test_changes_are_one_text() -> None:
    config = Config()
    apply_changes(config, ["# escape=`", "ENV A=1\nENV B=2", "# a comment", "LABEL l=`", "v"])
    assert (config.env, config.labels) == (["A=1", "B=2"], {"l": "v"})
    with pytest.raises(InvalidParameter, match="^file with no instructions$"):
        apply_changes(config, [""])
    with pytest.raises(InvalidParameter, match="^RUN is not a valid change command$"):
        apply_changes(config, ["ENV A=changed", "RUN x"])
    assert config.env == ["A=1", "B=2"]


def test_words_are_split_before_variables_are_replaced() -> None:
    config = Config(env=["V=a b"])
    apply_changes(config, [r"""ENV A=$V B='$V' C="$V \"q\"" D=\$V E=x\ y"""])
    assert config.env[1:] == ["A=a b", "B=$V", 'C=a b "q"', "D=$V", "E=x y"]
    with pytest.raises(InvalidParameter, match="matching double-quote"):
        apply_changes(config, ['ENV A="x'])


def test_an_entrypoint_drops_the_command_it_was_not_written_for() -> None:
    config = Config(cmd=["old"])
    apply_changes(config, ["ENTRYPOINT x"])
    assert config.entrypoint == ["/bin/sh", "-c", "x"]
    assert config.cmd is None


@pytest.mark.parametrize("name", ["RUN", "NOSUCH", "COPY"])
def test_other_instructions_are_refused(name: str) -> None:
    with pytest.raises(InvalidParameter, match=f"^{name} is not a valid change command$"):
        apply_changes(Config(), [f"{name} x"])


@pytest.mark.parametrize(
    ("values", "means"),
    [(["true"], True), (["1", "true", "maybe"], True), (["0"], False), (["no", "false"], False)],
)
def test_boolean_filters(values: list[str], means: bool) -> None:
    assert boolean_filter({"dangling": values}, "dangling", not means) is means


@pytest.mark.parametrize("values", [[], ["maybe"], ["true", "false"]])
def test_boolean_filters_that_say_neither_or_both(values: list[str]) -> None:
    with pytest.raises(InvalidParameter, match=r"^invalid filter 'dangling=\["):
        boolean_filter({"dangling": values}, "dangling", True)


def test_where_an_archive_is_imported_from() -> None:
    assert web_address("example.org/x.tar") == "http://example.org/x.tar"
    assert web_address("https://example.org/x.tar") == "https://example.org/x.tar"
    for source, message in (
        ("http://", 'Get "http:": http: no Host in request URL'),
        ("http:///x", 'Get "http:///x": http: no Host in request URL'),
        ("ftp://x", 'Get "ftp://x": unsupported protocol scheme "ftp"'),
    ):
        with pytest.raises(SystemError_) as caught:
            web_address(source)
        assert str(caught.value) == message


def test_broken_json_is_told_as_go_tells_it() -> None:
    assert go_syntax_error(b"not json") == "invalid character 'o' in literal null (expecting 'u')"
    assert go_syntax_error(b"x") == "invalid character 'x' looking for beginning of value"
    assert go_syntax_error(b"") == "unexpected end of JSON input"
    assert go_syntax_error(b"{} x") == "invalid character 'x' after top-level value"
    assert go_syntax_error(b'{"a" 1}') == "invalid character '1' after object key"
    assert go_syntax_error(b"{1}") == "invalid character '1' looking for beginning of object key string"


@pytest.mark.parametrize(
    "blob", [b"[]", b"5", b'{"rootfs": 5}', b'{"rootfs": null}', b'{"history": [5]}', b"{"]
)
def test_broken_image_configurations_are_refused(blob: bytes) -> None:
    with pytest.raises(InvalidParameter):
        parse_config(blob)


def test_null_members_are_as_absent() -> None:
    config = parse_config(b'{"os":null,"rootfs":{"diff_ids":null},"history":null,"unknown":[1]}')
    assert (config.os, config.rootfs.diff_ids, config.history) == ("", [], [])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"nope": "1"}, 'create v8: invalid option: "nope"'),
        ({"type": "tmpfs"}, 'create v8: missing required option: "device"'),
        ({"device": "/tmp"}, 'create v8: missing required option: "type"'),
        ({"o": "size=10m"}, 'create v8: missing required option: "device"'),
        ({"size": "10m"}, "create v8: quota size requested but no quota support"),
        ({"size": "abc"}, "create v8: invalid size: 'abc'"),
    ],
)
def test_volume_options(given: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        options.check_options("v8", given)
    assert str(caught.value) == message


def test_volume_mount_options() -> None:
    wanted = options.resolve({"type": "tmpfs", "device": "tmpfs", "o": "size=1m,ro,nosuid,uid=7"})
    assert (wanted.source, wanted.fstype, wanted.flags, wanted.data) == ("tmpfs", "tmpfs", 3, "size=1m,uid=7")
    wanted = options.resolve({"type": "nfs", "device": ":/x", "o": "addr=127.0.0.1,rw"})
    assert wanted.data == "addr=127.0.0.1"


@pytest.mark.parametrize("name", ["../etc", "a b", "/abs", ".x", "", "ä0", "a/b", "x\n"])
def test_volume_names(name: str) -> None:
    with pytest.raises(InvalidParameter, match="includes invalid characters for a local volume name"):
        options.check_name(name)


def test_volume_filters() -> None:
    with pytest.raises(InvalidParameter, match="^invalid filter 'bogus'$"):
        volume_filters.list_selector({"bogus": ["x"]}, set())
    with pytest.raises(InvalidParameter, match=r"^invalid filter 'dangling=\[maybe\]'$"):
        volume_filters.list_selector({"dangling": ["maybe"]}, set())
    with pytest.raises(InvalidParameter, match="^invalid filter 'until'$"):
        volume_filters.prune_selector({"until": ["1h"]})


def test_lines_of_a_stream() -> None:
    assert jsonlines.line(stream=" ---> <&>\n") == b'{"stream":" ---\\u003e \\u003c\\u0026\\u003e\\n"}\r\n'
    assert jsonlines.error_line("bad") == b'{"error":"bad","errorDetail":{"message":"bad"}}\r\n'
    assert jsonlines.error_line("bad", 2) == b'{"error":"bad","errorDetail":{"code":2,"message":"bad"}}\r\n'
