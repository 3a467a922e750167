"""docker-py against the daemon: the same engine through another client."""

from __future__ import annotations

import io
import tarfile

import docker
import pytest

from tests.harness.engine import Engine
from tests.harness.images import busybox_layer


def test_version_and_info(engine: Engine) -> None:
    version = engine.client.version()
    assert tuple(map(int, version["ApiVersion"].split("."))) >= (1, 51)
    assert version["Os"] == "linux"
    info = engine.client.info()
    assert info["Driver"] in ("overlay2", "vfs")
    assert info["DockerRootDir"] == str(engine.data_root.resolve())


def test_run_and_errors(engine: Engine) -> None:
    run = engine.client.containers.run
    assert run("busybox", ["echo", "hi"], remove=True) == b"hi\n"
    with pytest.raises(docker.errors.ContainerError) as caught:
        run("busybox", ["sh", "-c", "echo bad >&2; exit 3"], remove=True)
    assert (caught.value.exit_status, caught.value.stderr) == (3, b"bad\n")
    with pytest.raises(docker.errors.NotFound):
        engine.client.containers.get("nosuch")


def test_exec_demultiplexed(engine: Engine) -> None:
    container = engine.client.containers.run("busybox", ["sleep", "300"], detach=True)
    try:
        code, (out, err) = container.exec_run(["sh", "-c", "echo o; echo e >&2; exit 5"], demux=True)
        assert (code, out, err) == (5, b"o\n", b"e\n")
        assert [item["Id"] for item in engine.client.api.containers()] == [container.id]
    finally:
        container.remove(force=True)


def test_logs_stream(engine: Engine) -> None:
    container = engine.client.containers.run("busybox", ["seq", "1", "100"], detach=True)
    try:
        lines = b"".join(container.logs(stream=True, follow=True)).split()
        assert lines == [str(number).encode() for number in range(1, 101)]
        assert container.wait()["StatusCode"] == 0
    finally:
        container.remove()


def test_images(engine: Engine) -> None:
    images = engine.client.images
    busybox = images.get("busybox")
    assert busybox.tags == ["busybox:latest"]
    assert busybox.tag("copy", "1")
    assert sorted(images.get("copy:1").tags) == ["busybox:latest", "copy:1"]
    images.remove("copy:1")
    assert images.get("busybox").tags == ["busybox:latest"]
    assert busybox.history()[0]["Size"] > 0


def test_import(engine: Engine) -> None:
    engine.client.api.import_image_from_data(busybox_layer(), repository="imported", tag="1")
    try:
        out = engine.client.containers.run("imported:1", ["cat", "/etc/passwd"], remove=True)
        assert out.startswith(b"root:")
    finally:
        engine.client.images.remove("imported:1")


def test_broken_archive_changes_nothing(engine: Engine) -> None:
    before = [image.id for image in engine.client.images.list(all=True)]
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        info = tarfile.TarInfo("manifest.json")
        info.size = 2
        archive.addfile(info, io.BytesIO(b"{}"))
    with pytest.raises((docker.errors.APIError, docker.errors.ImageLoadError)):
        engine.client.images.load(out.getvalue())
    assert [image.id for image in engine.client.images.list(all=True)] == before


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("POST", "busybox/tag", 200, ""),
        ("POST", "Bad/tag?repo=x", 404, "repository name (library/Bad) must be lowercase"),
        ("POST", "nosuch/tag?repo=X", 400, "repository name (library/X) must be lowercase"),
        ("POST", "create", 500, 'Get "http:": http: no Host in request URL'),
        ("POST", "create?fromImage=busybox&tag=sha256:12", 400, "invalid tag format"),
        ("POST", "busybox/push?tag=a:b", 400, "invalid tag format"),
        ("GET", "busybox/attestations", 501, "the legacy image store does not support attestations"),
        ("GET", "json?identity=1", 400, "identity requires manifests=1"),
        ("GET", "busybox/json?platform=x", 400, "platform: invalid character 'x' looking for"),
    ],
)
def test_requests_about_images(engine: Engine, method: str, path: str, status: int, message: str) -> None:
    api = engine.client.api
    found = api.request(method, f"{api.base_url}/images/{path}")
    assert found.status_code == status
    assert message in (found.json()["message"] if found.content else "")


def test_no_commit_upon_an_image_that_is_gone(engine: Engine) -> None:
    images, containers = engine.client.images, engine.client.containers
    engine.client.api.import_image_from_data(busybox_layer(), repository="soon-gone")
    image = images.get("soon-gone")
    container = containers.create("soon-gone", ["true"])
    try:
        images.remove("soon-gone", force=True)
        with pytest.raises(docker.errors.NotFound, match=f"failed to get digest {image.id}: open "):
            container.commit("nothing")
    finally:
        container.remove()


def test_removal_for_a_platform(engine: Engine) -> None:
    engine.client.api.import_image_from_data(busybox_layer(), repository="one-platform")
    arm, amd = '{"os":"linux","architecture":"arm64"}', '{"os":"linux","architecture":"amd64"}'
    api = engine.client.api
    url = f"{api.base_url}/images/one-platform"
    assert api.delete(url, params={"platforms": [arm, amd]}).status_code == 400
    assert api.delete(url, params={"platforms": arm}).status_code == 404
    assert api.delete(url, params={"platforms": amd}).json()[0] == {"Untagged": "one-platform:latest"}
