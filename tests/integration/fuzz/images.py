"""Archives of ``docker load`` that lie: Docker's manifest.json, and OCI layouts."""

from __future__ import annotations

import hashlib
import io
import json
import random
import tarfile
from typing import Any

from tests.integration.fuzz import tars

#: What stands where something else is expected.
ODD: tuple[Any, ...] = (
    None, 0, -1, 1 << 70, 1.5, True, "", "x", "..", "../../x", "/etc/passwd", "\0", "\ud800x", [], {}, [None],
    [[]], {"a": 1}, "sha256:", "sha256:zz", "sha256:" + "0" * 64, "sha512:" + "0" * 64, "md5:" + "0" * 32,
    "sha256:../../../x", "A" * 5000, ["../x"], ["sha256:" + "0" * 64] * 3, "latest", "Bad/NAME:1", ":", "@",
)  # fmt: skip
_LAYER = io.BytesIO()
with tarfile.open(fileobj=_LAYER, mode="w") as _archive:
    _archive.addfile(tarfile.TarInfo("f"))
LAYER = _LAYER.getvalue()


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def spoil(rng: random.Random, document: Any, chance: float = 0.05) -> Any:
    """*document* with some of its members replaced, removed or doubled."""
    if rng.random() < chance / 3:
        return rng.choice(ODD)
    if isinstance(document, dict):
        found = {
            key: spoil(rng, value, chance) for key, value in document.items() if rng.random() > chance / 3
        }
        if rng.random() < chance / 4:
            found[rng.choice(("path", "Layers", "layers", "urls", "mediaType"))] = rng.choice(ODD)
        return found
    if isinstance(document, list):
        found_ = [spoil(rng, value, chance) for value in document]
        return found_ * rng.choice((1, 1, 1, 2)) if rng.random() < chance else found_
    return rng.choice(ODD) if rng.random() < chance / 2 else document


def encoded(rng: random.Random, document: Any) -> bytes:
    data = json.dumps(document).encode()
    if rng.random() < 0.05:
        at = rng.randrange(len(data) + 1)
        data = rng.choice((data[:at], data[:at] + b"\xff" + data[at:], data + data, b"", b"[" * 50_000))
    return data


def _config(rng: random.Random, layers: list[bytes]) -> bytes:
    document = {
        "architecture": "amd64",
        "os": rng.choice(("linux", "linux", "linux", "windows", "")),
        "created": rng.choice(("2023-11-14T22:13:20Z", "yesterday", "9999-99-99T00:00:00Z", "")),
        "config": {"Cmd": ["sh"], "Env": ["A=b"], "Labels": {"a": "b"}, "ExposedPorts": {"80/tcp": {}}},
        "rootfs": {"type": "layers", "diff_ids": [digest(data) for data in layers]},
        "history": [{"created_by": "x"}, {"empty_layer": True}],
    }
    return encoded(rng, spoil(rng, document))


def _docker(rng: random.Random, layers: list[bytes]) -> dict[str, bytes]:
    config = _config(rng, layers)
    names = [f"{number}/layer.tar" for number in range(len(layers))]
    items = [{"Config": "c.json", "RepoTags": [f"fuzz:{rng.randrange(3)}"], "Layers": names}]
    files = {"c.json": config, "manifest.json": encoded(rng, spoil(rng, items))}
    return files | dict(zip(names, layers, strict=True))


def _oci(rng: random.Random, layers: list[bytes]) -> dict[str, bytes]:
    blobs: dict[str, bytes] = {}

    def blob(data: bytes, media_type: str) -> dict[str, Any]:
        blobs["blobs/sha256/" + digest(data)[7:]] = data if rng.random() > 0.03 else data + b" "
        return {"mediaType": media_type, "digest": digest(data), "size": len(data)}

    kind = "application/vnd.oci.image"
    manifest = {
        "schemaVersion": 2,
        "config": blob(_config(rng, layers), f"{kind}.config.v1+json"),
        "layers": [blob(data, f"{kind}.layer.v1.tar") for data in layers],
    }
    entry = blob(encoded(rng, spoil(rng, manifest)), f"{kind}.manifest.v1+json")
    entry["annotations"] = {"org.opencontainers.image.ref.name": rng.choice(("fuzz:9", "latest", "Bad:x"))}
    if rng.random() < 0.4:
        entry["platform"] = {"os": "linux", "architecture": rng.choice(("amd64", "arm64"))}
        nested = {"schemaVersion": 2, "manifests": [entry, entry]}
        entry = blob(encoded(rng, spoil(rng, nested)), f"{kind}.index.v1+json")
    index = {"schemaVersion": 2, "manifests": [entry]}
    return {"oci-layout": b"{}", "index.json": encoded(rng, spoil(rng, index)), **blobs}


def _packed(rng: random.Random, files: dict[str, bytes]) -> bytes:
    out = b""
    names = list(files)
    rng.shuffle(names)
    for name in names:
        if rng.random() < 0.04:
            continue
        shown = rng.choice(("", "./", "/", "../", "d/../")) + name if rng.random() < 0.1 else name
        if rng.random() < 0.04:
            info = tarfile.TarInfo(shown)
            info.type = rng.choice((tarfile.LNKTYPE, tarfile.SYMTYPE))
            info.linkname = rng.choice((*names, "/etc/passwd", "../../../../etc/passwd", name))
            out += info.tobuf(tarfile.GNU_FORMAT)
            continue
        info = tarfile.TarInfo(shown)
        info.size = len(files[name])
        out += info.tobuf(tarfile.GNU_FORMAT) + tars.padded(files[name])
    return out + b"\0" * 1024


def archive(number: int, seed: str) -> bytes:
    """What ``docker load`` is given in case *number*."""
    rng = random.Random(f"{seed}:image:{number}")
    layers = [LAYER] * rng.choice((0, 1, 1, 2))
    if rng.random() < 0.4:
        layers = [*layers, tars.layer(number, seed)]
    files = _docker(rng, layers) if rng.random() < 0.6 else _oci(rng, layers)
    data = _packed(rng, files)
    return tars.mutated(rng, data) if rng.random() < 0.25 else data


__all__ = ["archive"]
