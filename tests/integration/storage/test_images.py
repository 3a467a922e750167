"""Load, import, list, tag, remove and prune on a real store and a real graph driver."""

from __future__ import annotations

import asyncio
import gzip
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from services.engine.images.references import parse
from services.protocol.api.images import DeleteItem
from services.protocol.errors import Conflict, InvalidParameter, NotFound, WharfError
from tests.integration.storage.conftest import Home
from tests.integration.storage.storage import Storage, storage
from tests.suites.trees import digest, directory, entry, image_archive, symlink, tar

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="extracts as root")

BASE = tar(directory("etc"), entry("etc/passwd", b"root"), entry("f", b"hi\n"))
TOP = tar(entry("g", b"12345"))
ARCHIVE = image_archive([(["one:1", "one:latest"], [BASE]), (["two/x:1"], [BASE, TOP])])


def run(tmp_path: Path, test: Callable[[Storage], Awaitable[None]], driver: str = "overlay2") -> None:
    async def body() -> None:
        async with storage(tmp_path / "root", driver) as made:
            await test(made)

    asyncio.run(body())


def texts(items: list[DeleteItem]) -> list[str]:
    return [
        f"Untagged: {item.untagged}" if isinstance(item.untagged, str) else f"Deleted: {item.deleted}"
        for item in items
    ]


def test_load_list_inspect_and_restart(home: Home) -> None:
    async def first(s: Storage) -> None:
        assert await s.load(ARCHIVE) == [
            {"stream": "Loaded image: one:1\n"},
            {"stream": "Loaded image: one:latest\n"},
            {"stream": "Loaded image: two/x:1\n"},
        ]
        await check(s)
        # The shared layer was extracted once.
        assert s.helpers.calls.count("docker-applylayer") == 2

    async def check(s: Storage) -> None:
        assert s.names() == ["one:1", "one:latest", "two/x:1"]
        inspected = s.images.inspect("one")
        assert inspected.repo_tags == ["one:1", "one:latest"]
        assert inspected.size == 4 + 3
        assert inspected.root_fs.layers == [digest(BASE)]
        assert inspected.config is not None and inspected.config.cmd == ["sh"]
        assert [item.size for item in s.images.history("two/x:1")] == [5, 7]
        shared = s.images.summaries(all=False, filters={"reference": ["one"]}, shared_size=True)
        assert [summary.shared_size for summary in shared] == [7]

    run(home.root, first, home.driver)
    run(home.root, check, home.driver)


def test_names_ids_and_prefixes(tmp_path: Path) -> None:
    async def test(s: Storage) -> None:
        await s.load(ARCHIVE)
        image_id = s.images.resolve("one").id
        full = image_id.removeprefix("sha256:")
        for ref in (image_id, full, full[:12], full[:6], f"sha256:{full[:10]}", "docker.io/library/one:1"):
            assert s.images.resolve(ref).id == image_id
        assert s.images.resolve("one", "linux/amd64").id == image_id
        for ref, message in (
            ("nosuch", "No such image: nosuch:latest"),
            ("nosuch:1", "No such image: nosuch:1"),
            (f"one@{digest(b'')}", f"No such image: one@{digest(b'')}"),
            ("sha256:" + "0" * 64, "No such image: sha256:" + "0" * 64),
        ):
            with pytest.raises(NotFound) as caught:
                s.images.resolve(ref)
            assert str(caught.value) == message
        with pytest.raises(NotFound) as caught:
            s.images.resolve("one", "linux/arm64")
        assert str(caught.value) == (
            "image with reference one was found but its platform (linux/amd64) "
            "does not match the specified platform (linux/arm64)"
        )

    run(tmp_path, test)


def broken(manifest: object, *files: tuple[str, bytes]) -> bytes:
    data = manifest if isinstance(manifest, bytes) else msgspec.json.encode(manifest)
    return tar(entry("manifest.json", data), *(entry(name, content) for name, content in files))


def config(*layers: bytes) -> bytes:
    return msgspec.json.encode(
        {"os": "linux", "rootfs": {"type": "layers", "diff_ids": [digest(x) for x in layers]}}
    )


BROKEN = {
    "not a tar": (b"this is not a tar archive", "unexpected EOF"),
    "zeros": (b"\0" * 1024, "invalid archive: does not contain a manifest.json"),
    "no manifest": (tar(entry("f", b"x")), "invalid archive: does not contain a manifest.json"),
    "truncated": (ARCHIVE[:5000], "unexpected EOF"),
    "truncated gzip": (gzip.compress(ARCHIVE)[:-100], "unexpected EOF"),
    "manifest is no json": (
        broken(b"not json"),
        "invalid archive: failed to decode manifest.json: "
        "invalid character 'o' in literal null (expecting 'u')",
    ),
    "manifest is null": (
        broken(b"null"),
        "invalid manifest, manifest cannot be null (but can be [])",
    ),
    "manifest is no list": (
        broken(b"{}"),
        "invalid archive: failed to decode manifest.json: "
        "json: cannot unmarshal object into Go value of type []tarexport.manifestItem",
    ),
    "config is no json": (
        broken([{"Config": "c"}], ("c", b"x")),
        "invalid character 'x' looking for beginning of value",
    ),
    "config without layers": (broken([{"Config": "c"}], ("c", b"{}")), "invalid image JSON, no RootFS key"),
    "no config": (
        broken([{"Config": "nosuch.json", "RepoTags": ["b:1"], "Layers": []}]),
        "open /nosuch.json: no such file or directory",
    ),
    "no layer": (
        broken([{"Config": "c", "RepoTags": ["b:1"], "Layers": ["l.tar"]}], ("c", config(BASE))),
        "open /l.tar: no such file or directory",
    ),
    "too few layers": (
        broken([{"Config": "c", "RepoTags": ["b:1"], "Layers": []}], ("c", config(BASE))),
        "invalid manifest, layers length mismatch: expected 0, got 1",
    ),
    "wrong layer": (
        broken([{"Config": "c", "RepoTags": ["b:1"], "Layers": ["l"]}], ("c", config(BASE)), ("l", TOP)),
        f'invalid diffID for layer 0: expected "{digest(BASE)}", got "{digest(TOP)}"',
    ),
    "bad name": (
        broken(
            [{"Config": "c", "RepoTags": ["Bad/NAME:1"], "Layers": ["l"]}], ("c", config(BASE)), ("l", BASE)
        ),
        "invalid reference format: repository name (NAME) must be lowercase",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_archives_leave_nothing(tmp_path: Path, kind: str) -> None:
    archive, message = BROKEN[kind]

    async def test(s: Storage) -> None:
        answer = await s.load(archive)
        assert answer == [{"errorDetail": {"message": message}, "error": message}]
        assert len(s.images.store) == 0
        assert s.layer_directories() == set()
        assert os.listdir(s.root / "tmp") == ["root"]

    run(tmp_path, test)


def test_an_archive_of_no_images(tmp_path: Path) -> None:
    async def test(s: Storage) -> None:
        assert await s.load(broken([])) == [{}]

    run(tmp_path, test)


def test_what_comes_before_the_fault_is_loaded(tmp_path: Path) -> None:
    documents = ("c", config(BASE)), ("l", BASE)

    async def test(s: Storage) -> None:
        item = {"Config": "c", "Layers": ["l"]}
        two = broken([{**item, "RepoTags": ["a:1"]}, {"Config": "nosuch"}], *documents)
        answer = await s.load(two)
        assert answer[0] == {"stream": "Loaded image: a:1\n"}
        assert answer[1]["error"] == "open /nosuch: no such file or directory"
        answer = await s.load(broken([{**item, "RepoTags": ["a:2", "A:3", "a:4"]}], *documents))
        assert [line.get("stream") for line in answer] == ["Loaded image: a:2\n", None]
        assert s.names() == ["a:1", "a:2"]
        # Ids are told where the last image has no name.
        image_id = s.images.resolve("a:1").id
        answer = await s.load(broken([{**item, "RepoTags": ["a:1"]}, item], *documents))
        assert answer[1:] == [{"stream": f"Loaded image ID: {image_id}\n" * 2}]

    run(tmp_path, test)


def test_links_of_old_archives_are_followed_inside_the_archive_only(tmp_path: Path) -> None:
    async def test(s: Storage) -> None:
        good = tar(
            entry("real/layer.tar", BASE),
            symlink("link/layer.tar", "../real/layer.tar"),
            entry("c", config(BASE)),
            entry("manifest.json", b'[{"Config":"c","RepoTags":["a:1"],"Layers":["link/layer.tar"]}]'),
        )
        assert await s.load(good) == [{"stream": "Loaded image: a:1\n"}]
        evil = tar(
            symlink("c", "/etc/passwd"),
            entry("manifest.json", b'[{"Config":"c","RepoTags":["a:1"],"Layers":[]}]'),
        )
        assert (await s.load(evil))[0]["error"] == "open /c: no such file or directory"

    run(tmp_path, test)


def test_oci_layout_with_compressed_layers(tmp_path: Path) -> None:
    blobs: dict[str, bytes] = {}

    def blob(data: bytes) -> dict[str, object]:
        blobs[digest(data)] = data
        return {"digest": digest(data), "size": len(data)}

    manifest = msgspec.json.encode(
        {"schemaVersion": 2, "config": blob(config(BASE)), "layers": [blob(gzip.compress(BASE))]}
    )
    index = {
        "manifests": [
            {**blob(manifest), "annotations": {"io.containerd.image.name": "docker.io/library/oci:1"}},
        ]
    }

    def archive(index: object) -> bytes:
        return tar(
            entry("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'),
            entry("index.json", msgspec.json.encode(index)),
            *(entry("blobs/sha256/" + name[7:], data) for name, data in blobs.items()),
        )

    async def test(s: Storage) -> None:
        assert await s.load(archive(index)) == [{"stream": "Loaded image: oci:1\n"}]
        assert s.images.inspect("oci:1").id == digest(config(BASE))
        name = next(name for name, data in blobs.items() if data == manifest)
        blobs[name] = manifest + b" "
        assert "digest mismatch" in str((await s.load(archive(index)))[0]["error"])

    run(tmp_path, test)


def test_a_loaded_name_moves(tmp_path: Path) -> None:
    async def test(s: Storage) -> None:
        await s.load(image_archive([(["a:1"], [BASE])]))
        before = s.images.resolve("a:1").id
        answer = await s.load(image_archive([(["a:1"], [TOP])]))
        assert answer[0] == {
            "stream": f"The image a:1 already exists, renaming the old one with ID {before} to empty string\n"
        }
        assert s.names() == ["<none>:<none>", "a:1"]

    run(tmp_path, test)


def test_import(tmp_path: Path) -> None:
    async def test(s: Storage) -> None:
        image_id = await s.import_(gzip.compress(BASE), repo="imp", tag="1", changes=["CMD x", "ENV A=b"])
        inspected = s.images.inspect("imp:1")
        assert (inspected.id, inspected.comment) == (image_id, "Imported from -")
        assert inspected.config is not None
        assert inspected.config.cmd == ["/bin/sh", "-c", "x"]
        assert inspected.config.env == ["A=b"]
        assert (await s.import_(BASE, repo="imp", message="mine", platform="linux/arm64")) != image_id
        inspected = s.images.inspect("imp")
        assert (inspected.comment, inspected.architecture) == ("mine", "arm64")
        assert inspected.root_fs.layers == [digest(BASE)]
        for bad in ({"changes": ["RUN x"]}, {"repo": "Imp"}):
            with pytest.raises(InvalidParameter):
                await s.import_(BASE, **bad)
        with pytest.raises(WharfError, match="EOF|tar"):
            await s.import_(b"junk\n")
        assert len(s.images.store) == 2

    run(tmp_path, test)


def test_rmi(tmp_path: Path) -> None:
    async def test(s: Storage) -> None:
        await s.load(ARCHIVE)
        one, two = s.images.resolve("one").id, s.images.resolve("two/x:1").id
        with pytest.raises(Conflict) as caught:
            await s.images.remove(one, force=False, prune=True)
        assert str(caught.value) == (
            f"conflict: unable to delete {one[7:19]} (must be forced) - "
            "image is referenced in multiple repositories"
        )
        assert texts(await s.images.remove("one:1", force=False, prune=True)) == ["Untagged: one:1"]
        removed = texts(await s.images.remove("one", force=False, prune=True))
        # The layer is another image's as well.
        assert removed == ["Untagged: one:latest", f"Deleted: {one}"]
        removed = texts(await s.images.remove(two[7:19], force=False, prune=True))
        assert removed[:2] == ["Untagged: two/x:1", f"Deleted: {two}"]
        assert len(removed) == 4
        assert s.layer_directories() == set()
        with pytest.raises(NotFound):
            await s.images.remove("one", force=True, prune=True)

    run(tmp_path, test)


def test_rmi_of_images_in_use(tmp_path: Path) -> None:
    stopped, running = "a" * 64, "b" * 64

    async def test(s: Storage) -> None:
        await s.load(ARCHIVE)
        one, two = s.images.resolve("one").id, s.images.resolve("two/x:1").id
        s.use(stopped, "two/x:1")
        await s.layers.create(stopped, s.images.resolve("two/x:1").chain_id, {})
        with pytest.raises(Conflict) as caught:
            await s.images.remove("two/x:1", force=False, prune=True)
        assert str(caught.value) == (
            'conflict: unable to remove repository reference "two/x:1" (must force) - container '
            f"{stopped[:12]} is using its referenced image {two[7:19]}"
        )
        with pytest.raises(Conflict, match=r"\(must be forced\) - image is being used by stopped container"):
            await s.images.remove(two, force=False, prune=True)
        removed = texts(await s.images.remove(two, force=True, prune=True))
        # The container keeps its layers until it goes.
        assert removed == ["Untagged: two/x:1", f"Deleted: {two}"]
        assert s.layers.mounts(stopped)
        s.containers.clear()
        await s.layers.remove(stopped)
        assert len([name for name in s.layer_directories() if not name.endswith("-init")]) == 1
        s.use(running, "one:1", running=True)
        with pytest.raises(
            Conflict, match=r"\(cannot be forced\) - image is being used by running container"
        ):
            await s.images.remove(one, force=True, prune=True)
        await s.images.remove("one:1", force=False, prune=True)
        with pytest.raises(Conflict, match="unable to remove repository reference"):
            await s.images.remove("one", force=False, prune=True)

    run(tmp_path, test)


def test_prune(tmp_path: Path) -> None:
    async def test(s: Storage) -> None:
        await s.load(image_archive([(["a:1"], [BASE])]))
        await s.load(image_archive([(["a:1"], [TOP])]))
        assert (await s.images.prune({"label": ["no"]})).images_deleted is None
        reply = await s.images.prune({})
        assert reply.space_reclaimed == 7 and len(reply.images_deleted or []) == 2
        s.use("c" * 64, "a:1")
        assert (await s.images.prune({"dangling": ["false"]})).images_deleted is None
        s.containers.clear()
        reply = await s.images.prune({"dangling": ["false"]})
        assert texts(reply.images_deleted or [])[0] == "Untagged: a:1"
        for filters, message in (
            ({"colour": ["x"]}, "invalid filter 'colour'"),
            ({"dangling": ["maybe"]}, r"invalid filter 'dangling=\[maybe\]'"),
            ({"until": ["soon"]}, "invalid value for 'until' filter"),
        ):
            with pytest.raises(InvalidParameter, match=message):
                await s.images.prune(filters)

    run(tmp_path, test)


def test_list_filters(tmp_path: Path) -> None:
    async def test(s: Storage) -> None:
        await s.load(image_archive([(["old:1"], [BASE])], {"Labels": {"team": "red"}}))
        await s.import_(TOP, repo="new", changes=["LABEL team=blue"])
        await s.import_(TOP)

        def names(**filters: list[str]) -> list[str]:
            found = s.images.summaries(all=False, filters=filters, shared_size=False)
            return sorted(tag for summary in found for tag in summary.repo_tags or ["-"])

        assert names(label=["team=red"]) == ["old:1"]
        assert names(label=["team"]) == ["new:latest", "old:1"]
        assert names(dangling=["true"]) == ["-"]
        assert names(dangling=["false"]) == ["new:latest", "old:1"]
        assert names(reference=["o*"]) == ["old:1"]
        assert names(before=["new"]) == ["old:1"]
        assert names(since=["old:1"]) == ["-", "new:latest"]
        assert names(until=["2024-01-01"]) == ["old:1"]
        with pytest.raises(NotFound, match="No such image: nosuch:latest"):
            names(before=["nosuch"])

    run(tmp_path, test)


def test_events(tmp_path: Path) -> None:
    async def test(s: Storage) -> None:
        await s.load(image_archive([(["a:1"], [BASE])]))
        image_id = s.images.resolve("a:1").id
        await s.images.tag("a:1", "b", "2")
        await s.images.remove("b:2", force=False, prune=True)
        await s.images.remove("a:1", force=False, prune=True)
        assert s.published == [
            ("image", "load", image_id),
            ("image", "tag", "b:2"),
            ("image", "untag", image_id),
            ("image", "untag", image_id),
            ("image", "delete", image_id),
        ]

    run(tmp_path, test)


def test_parents_and_images_without_a_time_in_lists(tmp_path: Path) -> None:
    untimed = broken(
        [{"Config": "c", "RepoTags": ["old:1"], "Layers": ["l"]}], ("c", config(BASE)), ("l", BASE)
    )

    async def test(s: Storage) -> None:
        await s.load(ARCHIVE)
        await s.load(untimed)
        one, two = s.images.resolve("one").id, s.images.resolve("two/x:1").id
        await s.images.store.adopt(two, one)

        def listed(all: bool = False, **filters: str) -> list[str]:
            found = s.images.summaries(
                all=all, filters={k: [v] for k, v in filters.items()}, shared_size=False
            )
            return [summary.id for summary in found]

        times = {
            summary.id: summary.created
            for summary in s.images.summaries(all=True, filters={}, shared_size=False)
        }
        assert sorted(times.values()) == [0, 1700000000, 1700000000]
        old = s.images.resolve("old:1").id
        assert listed()[-1] == old and old not in listed(until="2030-01-01")
        assert set(listed(since="old:1")) == set(listed(before="old:1")) == set(times)
        for name in ("one:1", "one:latest"):
            await s.images.remove(name, force=False, prune=True)
        assert one not in listed() and one in listed(all=True)
        # A parent does not dangle, whether it has names or none.
        assert listed(all=True, dangling="true") == []
        by_digest = parse(f"d@{digest(b'')}")
        await s.images.store.tag(by_digest, one)
        assert listed(dangling="true") == []
        await s.images.prune({})
        assert s.images.store.references(one) == [by_digest]

    run(tmp_path, test)


def test_two_loads_of_the_same_image_at_once(tmp_path: Path) -> None:
    async def test(s: Storage) -> None:
        answers = await asyncio.gather(s.load(ARCHIVE), s.load(ARCHIVE))
        assert answers[0] == answers[1]
        assert s.helpers.calls.count("docker-applylayer") == 2
        assert len(s.layer_directories()) == 2
        for name in s.names():
            await s.images.remove(name, force=False, prune=True)
        assert s.layer_directories() == set()

    run(tmp_path, test)
