"""Images: pull, load and save of one of 500 MB with 30,000 small files, and a list of 500.

The images and the registry's blobs are made once and given to both daemons. Each daemon has a registry
process of its own over the same files, in its own network: dockerd's is not the host's.

Every repeat takes another image, and what was pulled and loaded goes with the daemon: on some file
systems (ext4 without a journal) making files is slow for a minute after many were deleted, for whoever
comes next.
"""

from __future__ import annotations

import functools
import hashlib
import http.client
import io
import json
import os
import random
import shutil
import socket
import subprocess
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isal import igzip

from bench.client import Client
from bench.engines import Daemon
from tests.harness.readiness import UnixConnection, wait_until

LAYERS = 8
NAME = "bench/image"
_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG = "application/vnd.docker.container.image.v1+json"
_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
_MTIME = 1_700_000_000
#: Bytes of the files that are not small.
_LARGE = 8_000_000


@dataclass(frozen=True)
class Blob:
    path: Path
    digest: str
    size: int


@dataclass(frozen=True)
class Image:
    """As a registry has it."""

    blobs: list[Blob]
    manifest: bytes


@functools.cache
def _directory() -> Path:
    """Goes with this process."""
    made = tempfile.TemporaryDirectory(prefix="wharfd-bench-image-")
    _kept.append(made)
    return Path(made.name)


_kept: list[tempfile.TemporaryDirectory[str]] = []


def _layers(kind: str, number: int, megabytes: int, files: int) -> list[Blob]:
    """Plain layers that no other image shares."""
    random_ = random.Random(f"{kind} {number}")
    base, size = _directory(), megabytes * 1_000_000 // LAYERS
    return [
        _layer(base / f"{kind}{number}.{n}.tar", n, size, files // LAYERS, random_) for n in range(LAYERS)
    ]


@functools.cache
def published(number: int, megabytes: int, files: int) -> Image:
    """The image ``bench/image:<number>``; its files are there until they are in a registry."""
    plain = _layers("pull", number, megabytes, files)
    stored = [_compressed(blob) for blob in plain]
    config = json.dumps(_config([blob.digest for blob in plain])).encode()
    config_blob = _written(_directory() / f"pull{number}.json", config)
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": {"mediaType": _CONFIG, "digest": config_blob.digest, "size": config_blob.size},
        "layers": [{"mediaType": _LAYER, "digest": blob.digest, "size": blob.size} for blob in stored],
    }
    return Image([config_blob, *stored], json.dumps(manifest).encode())


@functools.cache
def archive(number: int, megabytes: int, files: int) -> Path:
    """What ``docker load`` takes, with the image ``bench/image:load<number>``."""
    layers = _layers("load", number, megabytes, files)
    path = _directory() / f"load{number}.tar"
    names = [f"{blob.digest[7:]}/layer.tar" for blob in layers]
    with tarfile.open(path, "w") as out:
        for blob, name in zip(layers, names, strict=True):
            out.add(blob.path, name)
            blob.path.unlink()
        _add(out, "config.json", json.dumps(_config([blob.digest for blob in layers])).encode())
        item = {"Config": "config.json", "RepoTags": [f"{NAME}:load{number}"], "Layers": names}
        _add(out, "manifest.json", json.dumps([item]).encode())
    return path


def _config(diff_ids: list[str], **more: object) -> dict[str, object]:
    return {
        "architecture": "amd64",
        "os": "linux",
        "created": "2023-11-14T22:13:20Z",
        "config": {"Cmd": ["true"], **more},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }


def _written(path: Path, data: bytes) -> Blob:
    path.write_bytes(data)
    return Blob(path, "sha256:" + hashlib.sha256(data).hexdigest(), len(data))


def _layer(path: Path, number: int, size: int, files: int, random_: random.Random) -> Blob:
    """A tree of *files* small files and large ones up to *size* bytes; about half of it compresses."""
    noise = random_.randbytes(1 << 20)
    text = " ".join(
        random_.choice(("layer", "image", "digest", "chain", "blob")) for _ in range(200_000)
    ).encode()
    left = size
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as out:
        for index in range(files):
            if index % 30 == 0:
                out.addfile(_info(f"l{number}/d{index // 30}", tarfile.DIRTYPE))
            length = random_.randrange(100, 8000)
            at = random_.randrange(len(text) - length)
            left -= _add(out, f"l{number}/d{index // 30}/f{index}", text[at : at + length])
        index = 0
        while left > 0:
            length = min(left, _LARGE)
            data = (noise + text[: 1 << 20]) * (length // (2 << 20) + 1)
            left -= _add(out, f"l{number}/large{index}", data[:length])
            index += 1
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Blob(path, f"sha256:{digest}", path.stat().st_size)


def _info(name: str, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.mtime, info.mode = kind, _MTIME, 0o755 if kind == tarfile.DIRTYPE else 0o644
    return info


def _add(out: tarfile.TarFile, name: str, data: bytes) -> int:
    info = _info(name)
    info.size = len(data)
    out.addfile(info, io.BytesIO(data))
    return info.size


def _compressed(blob: Blob) -> Blob:
    """By igzip: any gzip costs the same to read, and this one is quick to write."""
    path = blob.path.with_suffix(".gz")
    with blob.path.open("rb") as source, igzip.open(path, "wb", compresslevel=2) as out:
        shutil.copyfileobj(source, out, 1 << 20)
    blob.path.unlink()
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Blob(path, f"sha256:{digest}", path.stat().st_size)


class Registry:
    """``docker-registry`` in the network of *daemon*, with *images* in it as ``bench/image:<number>``."""

    def __init__(self, daemon: Daemon, images: list[Image]) -> None:
        self.root = _directory()
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            self.port = int(sock.getsockname()[1])
        self.name = f"127.0.0.1:{self.port}/{NAME}"
        document = {
            "version": "0.1",
            "log": {"level": "error", "accesslog": {"disabled": True}},
            "storage": {"filesystem": {"rootdirectory": str(self.root / "registry")}},
            "http": {"addr": f"127.0.0.1:{self.port}"},
        }
        self._config = self.root / "registry.yml"
        self._config.write_text(json.dumps(document))
        if not (self.root / "registry").exists():
            self._serve([])
            for number, image in enumerate(images):
                self._publish(image, str(number))
            self.close()
        self._serve(daemon.in_its_network())

    def _serve(self, prefix: list[str]) -> None:
        command = [*prefix, "docker-registry", "serve", str(self._config)]
        with (self.root / "registry.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        probe = [*prefix, "bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{self.port}"]
        wait_until(
            lambda: subprocess.run(probe, capture_output=True).returncode == 0, "the registry listens", 20
        )

    def _publish(self, image: Image, tag: str) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)

        def ask(method: str, url: str, body: Any, headers: dict[str, str]) -> str:
            """Where the answer points to."""
            connection.request(method, url, body, headers)
            answer = connection.getresponse()
            text = answer.read()
            if answer.status not in (201, 202):
                raise RuntimeError(f"{method} {url}: {answer.status} {text.decode(errors='replace')}")
            return str(answer.headers["Location"]).partition(f":{self.port}")[2]

        for blob in image.blobs:
            url = ask("POST", f"/v2/{NAME}/blobs/uploads/", None, {"Content-Length": "0"})
            with blob.path.open("rb") as file:
                headers = {"Content-Type": "application/octet-stream", "Content-Length": str(blob.size)}
                ask("PUT", f"{url}&digest={blob.digest}", file, headers)
            blob.path.unlink()
        ask("PUT", f"/v2/{NAME}/manifests/{tag}", image.manifest, {"Content-Type": _MANIFEST})
        connection.close()

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


@contextmanager
def registry(daemon: Daemon, images: list[Image]) -> Iterator[Registry]:
    serving = Registry(daemon, images)
    try:
        yield serving
    finally:
        serving.close()


def _stream(daemon: Daemon, method: str, url: str, body: Any = None) -> int:
    """Bytes of an answer that is read to its end; raises ``RuntimeError`` if the daemon says it failed."""
    connection = UnixConnection(daemon.socket, timeout=600)
    headers = {"Content-Type": "application/x-tar"}
    if body is not None:
        headers["Content-Length"] = str(os.fstat(body.fileno()).st_size)
    connection.request(method, url, body, headers)
    answer = connection.getresponse()
    size, tail = 0, b""
    while data := answer.read(1 << 18):
        size += len(data)
        tail = data[-2000:]
    connection.close()
    if answer.status != 200 or b'"errorDetail"' in tail:
        raise RuntimeError(f"{daemon.name}: {method} {url}: {answer.status} {tail.decode(errors='replace')}")
    return size


def _timed(method: str, url: str, daemon: Daemon, body: Any = None) -> float:
    began = time.perf_counter()
    _stream(daemon, method, url, body)
    return time.perf_counter() - began


def _settle() -> None:
    """What the last one has left to be written is no part of the next."""
    os.sync()
    time.sleep(1)


def pull(daemon: Daemon, megabytes: int, files: int, repeats: int) -> tuple[list[float], float]:
    """Seconds of each pull, and the peak of the daemon's memory (PSS, MB above idle) in one more."""
    samples = []
    images = [published(number, megabytes, files) for number in range(repeats + 1)]
    with registry(daemon, images) as serving:
        url = f"/images/create?fromImage={serving.name}&tag="
        for number in range(repeats):
            _settle()
            samples.append(_timed("POST", f"{url}{number}", daemon))
        watch = Watch(daemon)
        _stream(daemon, "POST", f"{url}{repeats}")
        peak = watch.end()
    return samples, peak


class Watch:
    """Samples a daemon's memory until :meth:`end`."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._idle = daemon.pss(set())
        self._peak = self._idle
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.wait(0.05):
            self._peak = max(self._peak, self._daemon.pss(set()))

    def end(self) -> float:
        """MB above what it was at the beginning, at the most."""
        self._over.set()
        self._thread.join()
        return self._peak - self._idle


def load_and_save(
    daemon: Daemon, megabytes: int, files: int, repeats: int
) -> tuple[list[float], list[float]]:
    """Seconds of each ``docker load`` and ``docker save``."""
    loads, saves = [], []
    for path in [archive(number, megabytes, files) for number in range(repeats)]:
        _settle()
        with path.open("rb") as file:
            loads.append(_timed("POST", "/images/load?quiet=1", daemon, file))
    for number in range(repeats):
        saves.append(_timed("GET", f"/images/{NAME}:load{number}/get", daemon))
    return loads, saves


def many(daemon: Daemon, count: int, repeats: int) -> list[float]:
    """Milliseconds of each list of *count* images."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as out:
        _add(out, "file", b"content")
    diff_id = "sha256:" + hashlib.sha256(layer.getvalue()).hexdigest()
    names = [f"bench/many{number}:1" for number in range(count)]
    with tempfile.TemporaryFile() as file:
        with tarfile.open(fileobj=file, mode="w") as out:
            _add(out, "layer.tar", layer.getvalue())
            items = []
            for number, name in enumerate(names):
                config = _config([diff_id], Labels={"number": str(number)})
                _add(out, f"{number}.json", json.dumps(config).encode())
                items.append({"Config": f"{number}.json", "RepoTags": [name], "Layers": ["layer.tar"]})
            _add(out, "manifest.json", json.dumps(items).encode())
        file.seek(0)
        _stream(daemon, "POST", "/images/load?quiet=1", file)
    client = Client(daemon.socket)
    try:
        samples = []
        for _ in range(repeats):
            began = time.perf_counter()
            found = client.get("/images/json")
            samples.append(1000 * (time.perf_counter() - began))
            if len(found) < count:
                raise RuntimeError(f"{daemon.name} lists only {len(found)} images")
    finally:
        for name in names:
            client.call("DELETE", f"/images/{name}")
        client.close()
    return samples
