"""What a build says: the classic builder's words and messages, and which steps it finds in its cache."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness.builds import Context, files, post
from tests.harness.engine import Engine

pytestmark = [pytest.mark.usefixtures("docker_command"), pytest.mark.timeout(400)]


@pytest.fixture
def context(engine: Engine, tmp_path: Path) -> Iterator[Context]:
    yield Context(engine, tmp_path)
    engine.remove_containers()


def lines(answer: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in answer.splitlines()]


@pytest.mark.parametrize("instruction", ["COPY *.txt /files/", "COPY one/*.txt /files/", "COPY *e /files/"])
def test_names_of_files_matter_to_the_cache(context: Context, instruction: str) -> None:
    """Not only what they hold: else a renamed file would keep its name in the image."""
    (context.directory / "one").mkdir()
    names = ("old.txt", "one/old.txt")
    for name in names:
        context.write(name, f"the same, for {instruction}")
    context.build(f"{instruction}\n")
    assert "Using cache" in context.build(f"{instruction}\n")
    for name in names:
        (context.directory / name).rename(context.directory / name.replace("old", "new"))
    text = context.build(f"{instruction}\nRUN ls /files\n")
    assert "Using cache" not in text and "\nnew.txt\n" in text and "old.txt" not in text


def test_modes_matter_to_the_cache_and_times_do_not(context: Context) -> None:
    context.write("there/file", "modes and times")
    text = "COPY there /there\nCOPY there/file /file\n"
    context.build(text)
    for path in (context.directory / "there/file", context.directory / "there"):
        path.touch()
        (context.directory / "there").touch()
        assert context.build(text).count("Using cache") == 2
        path.chmod(0o700)
        # A directory's own mode is nothing to the file in it, whose step comes too late all the same.
        assert "Using cache" not in context.build(text)


def test_steps_on_nothing_are_cached(engine: Engine) -> None:
    archive = files(Dockerfile="FROM scratch\nLABEL on=nothing\nCOPY f /\n", f="x")
    post(engine, archive)
    assert post(engine, archive).count("Using cache") == 2


def test_triggers_of_the_same_image_are_taken_once(engine: Engine) -> None:
    """By the first stage; stages after it find them in the cache, as if they were built in order."""
    post(engine, files(Dockerfile="FROM busybox\nONBUILD RUN sleep 0.3\nONBUILD ENV a=b\n"), "t=triggers")
    told = post(engine, files(Dockerfile="FROM triggers\nFROM triggers\nFROM triggers\n"))
    assert told.count("Running in") == 2 and told.count("Using cache") == 4


def test_every_stage_tells_its_image(engine: Engine) -> None:
    dockerfile = "FROM busybox AS a\nLABEL stage=a\nFROM scratch\nFROM a\nLABEL stage=b\n"
    told = lines(post(engine, files(Dockerfile=dockerfile), buildargs=json.dumps({"unused": "1"})))
    ids = [line["aux"]["ID"] for line in told if "aux" in line]
    assert len(ids) == 2
    last = [line.get("stream", "aux") for line in told[-3:]]
    assert last[:2] == ["aux", "[Warning] One or more build-args [unused] were not consumed\n"]
    assert last[2] == f"Successfully built {ids[1].removeprefix('sha256:')[:12]}\n"


def test_labels_are_taken_as_they_are(engine: Engine) -> None:
    told = post(engine, files(Dockerfile="FROM busybox\nENV x=y\n"), labels=json.dumps({"a": "$x 'b' \\"}))
    assert {"stream": "Step 3/3 : LABEL a=$x 'b' \\"} in lines(told)
    image = next(line["aux"]["ID"] for line in lines(told) if "aux" in line)
    labels = engine.docker("image", "inspect", "-f", "{{json .Config.Labels}}", image).stdout
    assert json.loads(labels) == {"a": "$x 'b' \\"}


@pytest.mark.parametrize(
    ("dockerfile", "message"),
    [
        ("FROM busybox AS one\nFROM busybox AS One\n", "one stage name already used"),
        ("FROM busybox\nCOPY --from=-1 / /\n", "invalid from flag value -1: index out of bounds"),
        ("FROM busybox\nCOPY --from=0 / /\n", "invalid from flag value 0: refers to current build stage"),
        ("FROM busybox\nCOPY --from=$x / /\n", "invalid from flag value $x: invalid reference format"),
        ("FROM scratch\nLABEL a=b\nFROM busybox\nCOPY --from=0 /x /\n",
         "COPY failed: stat x: file does not exist"),
        ("FROM busybox\nWORKDIR /bin/sh\n", "Cannot mkdir: /bin/sh is not a directory"),
        ("FROM --platform=x busybox\n",
         'failed to parse platform x: "x": unknown operating system or architecture: invalid argument'),
        ("FROM --platform=windows scratch\n", "operating system is not supported"),
        ("FROM busybox\nCOPY --from=scratch / /\n",
         "invalid from flag value scratch: 'scratch' is a reserved name"),
        (f"FROM {'0' * 64}\n",
         f"invalid repository name ({'0' * 64}), cannot specify 64-byte hexadecimal strings"),
        ("FROM busybox\nCOPY ./not//here/ /\n",
         "COPY failed: file not found in build context or excluded by .dockerignore: stat not//here/: "
         "file does not exist"),
        ("FROM busybox\nCOPY ../* /\n", "COPY failed: no source files were specified"),
        ("FROM busybox\nCOPY Dockerfile/x /\n",
         "COPY failed: forbidden path outside the build context: Dockerfile/x ()"),
        ("FROM busybox\nRUN ln -s x /x\nFROM busybox\nCOPY --from=0 /x /\n",
         "COPY failed: forbidden path outside the build context: x ()"),
        ("FROM busybox\nCOPY --chown=1:2:3 Dockerfile /\n",
         "unable to convert uid/gid chown string to host mapping: invalid chown string format: 1:2:3"),
    ],
)  # fmt: skip
def test_messages_of_steps(engine: Engine, dockerfile: str, message: str) -> None:
    assert lines(post(engine, files(Dockerfile=dockerfile)))[-1]["error"] == message


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"buildargs": "[]"},
         "error reading build args: json: cannot unmarshal array into Go value of type map[string]*string"),
        ({"buildargs": '{"a":1}'},
         "error reading build args: json: cannot unmarshal number into Go value of type string"),
        ({"labels": "x"}, "error reading labels: invalid character 'x' looking for beginning of value"),
        ({"cachefrom": "["}, "error reading cache-from: unexpected end of JSON input"),
        ({"ulimits": "{} x"},
         "error reading ulimit settings: invalid character 'x' after top-level value"),
        ({"ulimits": '[{"Name":"x","Soft":"1"}]'},
         "error reading ulimit settings: json: cannot unmarshal string into Go struct field Ulimit.Soft of "
         "type int64"),
        ({"ulimits": "[1]"},
         "error reading ulimit settings: json: cannot unmarshal number into Go value of type units.Ulimit"),
        ({"shmsize": "x"}, 'strconv.ParseInt: parsing "x": invalid syntax'),
    ],
)  # fmt: skip
def test_messages_of_parameters(engine: Engine, parameters: dict[str, str], message: str) -> None:
    answer = json.loads(post(engine, files(Dockerfile="FROM busybox\n"), **parameters))
    assert answer == {"message": message}


def test_options_are_checked_at_the_first_step(engine: Engine) -> None:
    """A step that only changes the configuration has a container in dockerd, with all options."""
    archive = files(Dockerfile="FROM busybox\nLABEL checked=1\n")
    told = lines(post(engine, archive, "nocache=1&memory=1000"))
    assert told[-1]["error"] == "Minimum memory limit allowed is 6MB"
    assert not any("Running in" in line.get("stream", "") for line in told)


def test_containers_of_failed_steps_have_no_log(engine: Engine) -> None:
    engine.remove_containers()
    told = lines(post(engine, files(Dockerfile="FROM busybox\nRUN echo told; exit 1\n")))
    assert {"stream": "told\n"} in told
    (container,) = engine.docker("ps", "-aq").stdout.split()
    done = engine.docker("logs", container, check=False)
    assert "configured logging driver does not support reading" in done.stderr
    engine.docker("rm", container)


def test_build_that_is_not_to_be_cancelled(engine: Engine) -> None:
    url = f"http+unix://{str(engine.socket).replace('/', '%2F')}/v1.41/build/cancel"
    api = engine.client.api
    assert api.post(url).json() == {"message": "build ID not provided"}
    assert api.post(url, params={"id": "x"}).status_code == 200


def test_what_dockerd_does_not_mind(engine: Engine) -> None:
    """Numbers that are none, no name, and no value."""
    archive = files(Dockerfile="FROM busybox\n")
    told = post(engine, archive, "memory=x&cpushares=y&t=", labels='{"a":null}', cachefrom='[null,"Bad"]')
    assert "Successfully built" in told
