"""Images that builds make: the same again, squashed, and files that were not copied."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.harness.builds import archive, files, member, post, said
from tests.harness.engine import Engine

pytestmark = [pytest.mark.usefixtures("docker_command"), pytest.mark.timeout(400)]

EPOCH = "1700000000"
STEPS = """FROM busybox
WORKDIR /w
COPY . /c
RUN echo made >made && ln -s made link && rm /bin/vi
LABEL a=b
"""


@pytest.fixture(scope="module")
def experimental() -> Iterator[Engine]:
    daemon = Engine("--experimental")
    try:
        daemon.start()
        daemon.load_images()
        yield daemon
    finally:
        daemon.close()


def built(engine: Engine, context: bytes, query: str = "", **parameters: str) -> str:
    answer = post(engine, context, query, **parameters)
    assert "errorDetail" not in answer, answer
    ids: list[str] = [aux["ID"] for line in answer.splitlines() if (aux := json.loads(line).get("aux"))]
    return ids[-1]


def inspect(engine: Engine, image: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(engine.docker("image", "inspect", image).stdout)[0]
    return found


def test_events_of_a_build(engine: Engine) -> None:
    """An image of a step that has a container is told of, one of COPY and one from the cache is not."""
    text = "FROM busybox\nRUN echo events\nENV a=events\nCOPY Dockerfile /\nWORKDIR /events\n"
    for expected in (["create"] * 3 + ["tag"], ["tag"]):
        began = time.time()
        built(engine, files(Dockerfile=text), t="events:1")
        window = f"--since={began:.9f}", f"--until={time.time():.9f}", "--format=json"
        shown = [json.loads(row) for row in engine.docker("events", *window).stdout.splitlines()]
        assert [one["Action"] for one in shown if one["Type"] == "image"] == expected
        own = [one["Action"] for one in shown if one["Type"] == "container"]
        assert own[:3] == (["create", "attach", "start"] if len(expected) > 1 else [])


def test_the_same_image_again(engine: Engine) -> None:
    epoch = json.dumps({"SOURCE_DATE_EPOCH": EPOCH})
    context = files(Dockerfile=STEPS, d__f="x")
    first, second, kept = (
        built(engine, context, f"nocache=1&rm={rm}", buildargs=epoch) for rm in ("1", "1", "0")
    )
    assert first == second == kept
    assert inspect(engine, first)["Created"] == "2023-11-14T22:13:20Z"
    newest = engine.docker("run", "--rm", first, "stat", "-c", "%Y", "/w/made", "/w", "/c").stdout.split()
    assert newest == [EPOCH] * 3
    other = json.dumps({"SOURCE_DATE_EPOCH": "1700000001"})
    assert "Using cache" not in post(engine, context, buildargs=other)
    assert "Using cache" in post(engine, context, buildargs=epoch)
    engine.docker("container", "prune", "-f")


def test_a_bad_epoch_is_refused(engine: Engine) -> None:
    answer = post(engine, files(Dockerfile=STEPS), buildargs=json.dumps({"SOURCE_DATE_EPOCH": "today"}))
    assert json.loads(answer)["message"] == "invalid SOURCE_DATE_EPOCH: today"


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("version=2", "version 2 of the builder (BuildKit) is not implemented: use version 1"),
        ("version=3", 'invalid version "3"'),
        ("squash=1", "squash is only supported with experimental mode"),
        (
            "outputs=%5B%7B%22Type%22:%22local%22%7D%5D",
            'output "local" of a build is not implemented: it needs BuildKit',
        ),
    ],
)
def test_what_is_refused(engine: Engine, query: str, message: str) -> None:
    assert json.loads(post(engine, files(Dockerfile=STEPS), query))["message"] == message


def test_squash(experimental: Engine) -> None:
    engine = experimental
    built(engine, files(Dockerfile=STEPS, f="x"), "squash=1&t=squashed")
    image = inspect(engine, "squashed")
    base = inspect(engine, "busybox")
    assert image["RootFS"]["Layers"][:-1] == base["RootFS"]["Layers"]
    assert image["Parent"] == base["Id"]
    history = engine.docker("history", "--no-trunc", "--format", "{{.Size}} {{.Comment}}", "squashed").stdout
    assert [line.split()[0] for line in history.splitlines()][1:5] == ["0B"] * 4
    assert "merge sha256:" in history.splitlines()[0]
    seen = engine.docker(
        "run", "--rm", "squashed", "sh", "-c", "cat /c/f /w/link; ls /bin/vi 2>&1 || true"
    ).stdout
    assert seen.splitlines() == ["xmade", "ls: /bin/vi: No such file or directory"]
    again = said(post(engine, files(Dockerfile=STEPS, f="x"), "squash=1&t=squashed"))
    assert again.count("Using cache") == 4


def test_squash_on_nothing(experimental: Engine) -> None:
    engine = experimental
    built(engine, files(Dockerfile="FROM scratch\nCOPY a /\nCOPY b /d/\n", a="1", b="2"), "squash=1&t=s")
    assert len(inspect(engine, "s")["RootFS"]["Layers"]) == 1
    container = engine.docker("create", "s", "x").stdout.strip()
    exported = engine.root / "exported.tar"
    engine.docker("export", "-o", str(exported), container)
    names = subprocess.run(["tar", "tf", exported], capture_output=True, check=True, text=True).stdout
    assert "d/b" in names.split()


# Files of the context ------------------------------------------------------------------------------------

LISTING = r"cd {0} && find . | sort | xargs stat -c '%n %A %h %u %g %s'"
#: The same twice: with a step behind it that may want the context, and as the last one that does.
COPIES = f"""FROM busybox
RUN mkdir -p /old/d /one && echo old >/old/d/f && ln -s /old /to && mkdir /old/l
COPY tree /to/
COPY --chown=1:2 tree /one
COPY tree/d/f tree/hard /two/
COPY tree /three
RUN {LISTING.format("/old")}; {LISTING.format("/one")}; {LISTING.format("/two")}; {LISTING.format("/three")}
"""


def tree() -> bytes:
    setuid = member("tree/d/f")
    setuid.mode = 0o4755
    return archive(
        (member("Dockerfile"), COPIES.encode()), (setuid, b"content"), (member("tree/e/f"), b""),
        (member("tree/l", b"2", "d/f"), b""), (member("tree/hard", b"1", "tree/d/f"), b""),
        (member("tree/pipe", b"6"), b""),
    )  # fmt: skip


def test_files_are_as_if_they_had_been_copied(engine: Engine) -> None:
    lines = [line.split() for line in said(post(engine, tree(), "nocache=1")).splitlines()]
    found = [line for line in lines if len(line) == 6 and line[0].startswith(".") and line[1][0] != "d"]
    inside = [
        ["./d/f", "-rwsr-xr-x", "2", "0", "0", "7"], ["./e/f", "-rw-r--r--", "1", "0", "0", "0"],
        ["./hard", "-rwsr-xr-x", "2", "0", "0", "7"], ["./l", "lrwxrwxrwx", "1", "0", "0", "3"],
        ["./pipe", "prw-r--r--", "1", "0", "0", "0"],
    ]  # fmt: skip
    owned = [[*line[:3], "1", "2", line[5]] for line in inside]
    two = [["./f", "-rwsr-xr-x", "1", "0", "0", "7"], ["./hard", "-rwsr-xr-x", "1", "0", "0", "7"]]
    assert found == [*inside, *owned, *two, *inside]


def test_a_large_tree_is_there_for_every_step(engine: Engine) -> None:
    """More files than are copied: linked by the first step, and so copied by the last, for no file is in two
    layers."""
    dockerfile = "FROM busybox\nCOPY tree /one\nCOPY tree /two\nRUN echo x >>/one/f7; cat /one/f7 /two/f7\n"
    many = {f"tree__f{number}": f"{number}\n" for number in range(700)}
    image = built(engine, files(Dockerfile=dockerfile, **many), "nocache=1&t=many")
    check = "ls /one | wc -l; ls /two | wc -l; cat /one/f7 /two/f7; stat -c %h /two/f7"
    seen = engine.docker("run", "--rm", image, "sh", "-c", check).stdout.split()
    assert seen == ["700", "700", "7", "x", "7", "1"]
    assert "Using cache" in post(engine, files(Dockerfile=dockerfile, **many))


def test_a_layer_that_was_moved_can_be_saved_and_loaded(engine: Engine) -> None:
    image = built(engine, tree(), "nocache=1&t=moved")
    before = inspect(engine, image)["RootFS"]["Layers"]
    saved = engine.root / "moved.tar"
    engine.docker("save", "-o", str(saved), "moved")
    engine.docker("rmi", "-f", "moved")
    engine.docker("builder", "prune", "-af", "--filter", "shared=true")
    engine.docker("load", "-i", str(saved))
    assert inspect(engine, "moved")["RootFS"]["Layers"] == before
    listing = engine.docker("run", "--rm", "moved", "sh", "-c", LISTING.format("/three")).stdout
    assert "./hard -rwsr-xr-x 2 0 0 7" in listing
