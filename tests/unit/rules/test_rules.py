"""House rules that a reader of a change should not have to check."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
GENERATED = re.compile(r"_pb2(_grpc)?\.pyi?$")
#: Lines; a file over it has to say why here.
MAX_LINES = 500
#: May start programs: outside the hot path, or what the program is for.
SPAWNERS = (
    "services/engine/launch/",
    "services/containerd_shim/oci/",
    "services/containerd_shim/zygote_client.py",
    "services/containerd_shim/runtime/command/",
    "reexec/command.py",
    "reexec/helpers/git.py",
)
#: May start background tasks: each keeps its tasks and sees their errors, or awaits them where they begin.
SCOPES = ("services/engine/scopes.py", "services/containerd_shim/registry.py", "services/apiserver/")
PACKAGES = ("services", "reexec", "tests", "bench", "examples")


def sources(*packages: str) -> list[Path]:
    found = [path for package in packages for path in (REPOSITORY / package).rglob("*.py")]
    return [path for path in found if not GENERATED.search(path.name)]


def name(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


def test_services_import_only_downward() -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports"], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", sources(*PACKAGES), ids=name)
def test_file_is_of_a_size_to_read(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_LINES


def _imported(tree: ast.AST) -> set[str]:
    """Top-level packages."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").partition(".")[0])
    return found


@pytest.mark.parametrize("path", sources("services", "reexec"), ids=name)
def test_source(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"\b(TODO|FIXME|XXX)\b", text), "unfinished work is an issue, not a comment"
    tree = ast.parse(text)
    calls = {ast.unparse(node.func): node.lineno for node in ast.walk(tree) if isinstance(node, ast.Call)}
    if not name(path).startswith(SCOPES):
        for call in ("asyncio.create_task", "asyncio.ensure_future", "loop.create_task"):
            assert call not in calls, f"line {calls[call]}: background tasks go through a scope"
    imported = _imported(tree)
    assert "pickle" not in imported
    if not name(path).startswith(SPAWNERS):
        assert "subprocess" not in imported, "nothing slow is spawned: fork from the zygote"


def _tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True)
    return [REPOSITORY / item for item in listed.stdout.split("\0") if item]


def test_installation_names_no_index_host() -> None:
    for path in _tracked():
        if path.name.startswith("requirements") or path.name in ("pyproject.toml", "Makefile"):
            assert not re.search(r"https?://|--index-url|--find-links", path.read_text()), name(path)


def test_requirements_are_the_pins_of_pyproject() -> None:
    import tomllib

    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    locked = set((REPOSITORY / "requirements.txt").read_text().split())
    locked_dev = set((REPOSITORY / "requirements-dev.txt").read_text().split())
    assert set(project["dependencies"]) <= locked <= locked_dev
    assert set(project["optional-dependencies"]["dev"]) <= locked_dev
    assert all("==" in line for line in locked_dev)
