"""RUN with here-documents, ``--mount`` and ``--network``: what the steps see, and what their layers get."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness.builds import Context, wait_nothing_left
from tests.harness.engine import Engine

pytestmark = [pytest.mark.usefixtures("docker_command"), pytest.mark.timeout(400)]

Build = Callable[..., str]


@pytest.fixture
def build(engine: Engine, tmp_path: Path) -> Build:
    """Builds a Dockerfile text on busybox with ``tmp_path`` as the context; its output."""
    return Context(engine, tmp_path).build


@pytest.fixture(autouse=True)
def nothing_left(engine: Engine) -> object:
    yield
    engine.remove_containers()
    wait_nothing_left(engine)


def test_heredocs_of_the_shell(build: Build) -> None:
    text = build(
        "ENV WHO=env\n"
        "RUN <<EOF\necho one of $WHO\nfalse || echo two\nEOF\n"
        "RUN cat <<-'PLAIN' && cat <<OTHER\n\tnot $WHO\n\tPLAIN\nbut ${WHO}\nOTHER\n"
        "RUN 3<<THREE cat <&3\nthree\nTHREE\n"
        "RUN echo $((1 << 4)) '<<EOF'\n"
        'SHELL ["/bin/sh", "-ec"]\n'
        "RUN <<EOF\nfalse\necho never\nEOF\n",
        check=False,
    )
    for line in ("one of env", "two", "not $WHO", "but env", "three", "16 <<EOF"):
        assert f"\n{line}\n" in text
    assert "\nnever\n" not in text
    assert "The command '/bin/sh -ec false\necho never\n' returned a non-zero code: 1" in text


def test_heredoc_with_an_interpreter(build: Build) -> None:
    text = build('RUN <<EOF\n#!/bin/awk -f\nBEGIN { print "awk" 6 * 7 }\nEOF\nRUN test ! -e /dev/pipes\n')
    assert "\nawk42\n" in text


def test_body_of_a_heredoc_is_in_the_key(build: Build) -> None:
    for script in ("", "#!/bin/sh\n"):
        first = f"RUN <<EOF\n{script}echo first >/f\nEOF\n"
        build(first)
        assert "Using cache" in build(first)
        assert "Using cache" not in build(first.replace("first", "second"))


def test_trigger_with_a_heredoc(engine: Engine, build: Build) -> None:
    build("ONBUILD RUN <<EOF cat\ntriggered in $HOME\nEOF\n", "-t", "trigger")
    done = engine.docker("build", "-", stdin="FROM trigger\n")
    assert "\ntriggered in /root\n" in done.stdout


def test_network(build: Build) -> None:
    text = build(
        "RUN --network=none ls /sys/class/net | grep -c . | sed s/^/none:/\n"
        "RUN --network=host ls /sys/class/net | grep -c eth0 | sed s/^/host:/; ls -1 /sys/class/net | wc -l\n"
        "RUN --network=default ls /sys/class/net | grep -c . | sed s/^/default:/\n"
    )
    assert "\nnone:1\n" in text and "\ndefault:2\n" in text and "\nhost:" in text
    assert 'invalid network mode "bridge"' in build("RUN --network=bridge true", check=False)
    assert "the --security option" in build("RUN --security=insecure true", check=False)


def test_bind_of_the_context(build: Build, tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir/file").write_text("content\n")
    (tmp_path / "link").symlink_to("dir/file")
    (tmp_path / "out").symlink_to("../../../../../../etc/passwd")
    dockerfile = (
        "WORKDIR /w\n"
        "RUN --mount=target=/a --mount=source=dir,target=sub,ro cat /a/dir/file sub/file && ! touch /a/x\n"
        "RUN --mount=type=bind,source=link,target=f,rw=true cat f && echo changed >f && cat f\n"
        "RUN --mount=target=/deep/down,rw cd /deep/down/dir && rm file && touch new && ls\n"
        "RUN test ! -e /w/f && test ! -e /w/sub && test ! -e /a && test ! -e /deep\n"
    )
    text = build(dockerfile)
    assert "\ncontent\ncontent\n" in text and "\nchanged\n" in text and "\nnew\n" in text
    assert "Read-only file system" in text
    assert (tmp_path / "dir/file").read_text() == "content\n"
    assert build(dockerfile).count("Using cache") == 5
    (tmp_path / "dir/file").write_text("other\n")
    assert "\nother\nother\n" in build(dockerfile)
    refused = build("RUN --mount=source=out,target=/p true", check=False)
    assert 'failed to compute cache key: "/out": not found' in refused


def test_bind_of_a_stage_and_of_an_image(engine: Engine, build: Build) -> None:
    dockerfile = (
        "RUN mkdir -p /src/sub && echo {} >/src/sub/f && ln -s /src /by && ln -s ../../../etc/group /group\n"
        "FROM busybox\n"
        "RUN --mount=from=0,source=/by/sub,target=/m --mount=from=0,target=/all "
        "cat /m/f && cat /all/src/sub/f && ! touch /m/x && ! touch /all/x\n"
        "RUN --mount=from=0,source=by/sub,target=/m,rw --mount=from=0,target=/all,rw "
        "echo mine >/m/f && touch /all/x && cat /m/f /all/src/sub/f\n"
        "RUN --mount=from=0,source=group,target=/m/g cat /m/g\n"
        "RUN --mount=from=an-image,source=bin/busybox,target=/bin/echo /bin/echo by name && ! ls /m /all\n"
    )
    engine.docker("tag", "busybox", "an-image")
    text = build(dockerfile.format("theirs"))
    assert "\ntheirs\ntheirs\n" in text and "\nmine\ntheirs\n" in text
    assert "\nroot:x:0:" in text and "\nby name\n" in text
    assert "\nchanged\nchanged\n" in build(dockerfile.format("changed"))
    assert "invalid from flag value 7" in build("RUN --mount=from=7,target=/x true", check=False)


def test_caches(build: Build) -> None:
    add = "RUN --mount=type=cache,target=/c,id=one echo {} >>/c/log; cat /c/log | tr '\\n' ,; ls -ldn /c\n"
    build(add.format("a"))
    text = build(add.format("b") + "RUN test ! -e /c\n")
    assert "a,b,drwxr-xr-x    2 0        0 " in text
    other = "RUN --mount=type=cache,target=/c,uid=7,gid=8,mode=0710 ls -ldn /c; ls /c | wc -l"
    assert "drwx--x---    2 7        8 " in build(other)
    seeded = (
        "RUN mkdir -p /seed/d && echo seeded >/seed/d/f\nFROM busybox\n"
        "RUN --mount=type=cache,from=0,source=/seed,target=/c,ro cat /c/d/f; touch /c/x || echo refused\n"
        "RUN --mount=type=cache,id=part,source=some/part,target=/c touch /c/in\n"
        "RUN --mount=type=cache,id=part,target=/c find /c -type f\n"
        "RUN --mount=type=cache,id=part,target=/c,sharing=locked "
        "--mount=type=cache,id=part,target=/d,sharing=locked touch /c/both && ls /d\n"
    )
    text = build(seeded)
    assert "\nseeded\n" in text and "\nrefused\n" in text
    assert "\n/c/some/part/in\n" in text and "\nboth\nsome\n" in text
    assert "Using cache" in build(seeded)


def _together(engine: Engine, sharing: str, command: str, count: int = 2) -> list[str]:
    """Outputs of builds that run at the same time, each with a step that uses a cache."""
    outputs: list[str] = []

    def one(number: int) -> None:
        mount = f"--mount=type=cache,target=/c,id={sharing},sharing={sharing}"
        text = f"FROM busybox\nRUN {mount} {command} # {number}\n"
        done = subprocess.run(
            ["docker", "build", "-"],
            input=text.encode(),
            env=engine.environment,
            capture_output=True,
            timeout=120,
        )
        outputs.append(done.stdout.decode())

    threads = [threading.Thread(target=one, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outputs


@pytest.mark.parametrize(
    ("sharing", "met", "tenths"), [("shared", 2, 900), ("private", 1, 8), ("locked", 1, 8)]
)
def test_caches_at_the_same_time(engine: Engine, sharing: str, met: int, tenths: int) -> None:
    # Each says that it is there, waits for the other, stays until that has seen it, and goes.
    command = (
        "count() { ls /c | grep -c $1; }; touch /c/in-$HOSTNAME; n=0; "
        f"while [ $n -lt {tenths} ] && [ $(count in-) -lt 2 ]; do sleep 0.1; n=$((n + 1)); done; "
        "met=$(count in-); echo met $met; touch /c/seen-$HOSTNAME; "
        "until [ $(count seen-) -ge $met ]; do sleep 0.1; done; rm /c/in-$HOSTNAME"
    )
    outputs = _together(engine, sharing, command)
    assert all(f"\nmet {met}\n" in text for text in outputs), outputs


def test_user_who_is_not_root(build: Build, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("read\n")
    text = build(
        "USER nobody\n"
        "RUN <<EOF\n#!/bin/sh\nid -un\nEOF\n"
        "RUN --mount=target=/c cat /c/f && ls /c && ! touch /c/f\n"
        "RUN --mount=target=/c,rw cat /c/f && ! touch /c/f\n"
        "RUN --mount=type=cache,target=/k,uid=65534 touch /k/mine && ls /k\n"
        "RUN --mount=type=tmpfs,target=/t touch /t/mine && ls /t\n"
    )
    assert "\nnobody\n" in text and text.count("\nread\n") == 2 and text.count("\nmine\n") == 2


def test_container_of_a_failed_step_has_no_mounts(engine: Engine, build: Build, tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    mounts = "--mount=target=/c --mount=type=cache,target=/k --mount=type=tmpfs,target=/t"
    build(f"RUN {mounts} ls /c/f && exit 3", check=False)
    (container,) = engine.docker("ps", "-aq").stdout.split()
    assert engine.docker("inspect", "-f", "{{.Mounts}}", container).stdout == "[]\n"
    engine.kill("engine")
    engine.wait_ready()
    assert engine.docker("inspect", "-f", "{{.Mounts}}", container).stdout == "[]\n"
    assert engine.docker("start", "-a", container, check=False).returncode == 1


def test_tmpfs_secret_and_ssh(build: Build) -> None:
    text = build(
        "RUN --mount=type=tmpfs,target=/t,size=1m df -k /t; printf 'echo ran' >/t/s; chmod +x /t/s; /t/s\n"
        "RUN --mount=type=secret,id=s --mount=type=ssh test ! -e /run/secrets && ! env | grep SSH\n"
        "RUN ! ls /t\n"
    )
    assert "tmpfs                     1024" in text and "\nran\n" in text
    assert "secret s: not found" in build("RUN --mount=type=secret,id=s,required true", check=False)
    refused = build("RUN --mount=type=ssh,required=true true", check=False)
    assert 'no SSH key "default" forwarded from the client' in refused


@pytest.mark.parametrize(
    ("mount", "message"),
    [
        ("type=bnd,target=/x", 'unsupported mount type "bnd" (did you mean bind?)'),
        ("type=cache,traget=/x", "unexpected key 'traget' in 'traget=/x' (did you mean target?)"),
        ("type=tmpfs,mode=7,target=/x", 'mode not allowed for "tmpfs" type mounts'),
        ("type=bind,from=$x,target=/x", "line 2: 'from' doesn't support variable expansion"),
        ("target=/", 'invalid mount target "/"'),
        ("type=bind,target=/x,thing", "invalid field 'thing' must be a key=value pair"),
        ("type=bind,target=/x,sharing=locked", "invalid cache sharing set for bind mount"),
        ("type=tmpfs,target=/x,size=much", "invalid value for size: much"),
    ],
)
def test_refused_mounts(build: Build, mount: str, message: str) -> None:
    assert message in build(f"RUN --mount={mount} true", check=False)
