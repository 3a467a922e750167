"""Documents by API version."""

from __future__ import annotations

from typing import Any

import pytest

from services.apiserver import headers
from services.apiserver.views import containers, images, system


def usage() -> dict[str, Any]:
    return {
        "LayersSize": 100,
        "Images": [
            {"Size": 60, "SharedSize": 10, "Containers": 1},
            {"Size": 60, "SharedSize": 10, "Containers": 0},
        ],
        "Containers": [{"State": "running", "SizeRw": 5}, {"State": "exited", "SizeRw": 7}],
        "Volumes": [{"UsageData": {"Size": 3, "RefCount": 0}}],
        "BuildCache": None,
    }


def test_disk_usage_in_sums() -> None:
    found = system.disk_usage(usage(), (1, 53), verbose=False)
    assert found == {
        "ImageUsage": {"ActiveCount": 1, "TotalCount": 2, "Reclaimable": 50, "TotalSize": 100},
        "ContainerUsage": {"ActiveCount": 1, "TotalCount": 2, "Reclaimable": 7, "TotalSize": 12},
        "VolumeUsage": {"ActiveCount": 0, "TotalCount": 1, "Reclaimable": 3, "TotalSize": 3},
    }
    assert len(system.disk_usage(usage(), (1, 53), verbose=True)["ImageUsage"]["Items"]) == 2
    assert system.disk_usage(usage(), (1, 51), verbose=False) == usage()


def test_information_about_the_host() -> None:
    def info(version: tuple[int, int]) -> dict[str, Any]:
        commits: dict[str, Any] = {f"{name}Commit": {"ID": "x"} for name in ("Containerd", "Runc", "Init")}
        runtimes = {"runc": {"path": "runc", "status": {}}}
        document = {**commits, "RegistryConfig": {}, "FirewallBackend": {}, "Runtimes": runtimes}
        return system.info(document, version)

    assert "FirewallBackend" in info((1, 49)) and "FirewallBackend" not in info((1, 48))
    assert info((1, 48))["RuncCommit"] == {"ID": "x", "Expected": "x"} and "Expected" not in info((1, 49))
    assert info((1, 49))["BridgeNfIptables"] is False and "BridgeNfIptables" not in info((1, 50))
    old = info((1, 46))["RegistryConfig"]
    assert old["AllowNondistributableArtifactsCIDRs"] is None and info((1, 47))["RegistryConfig"] == {}
    assert "status" in info((1, 44))["Runtimes"]["runc"] and info((1, 43))["Runtimes"]["runc"] == {
        "path": "runc"
    }


def test_inspected_container() -> None:
    def inspect(version: tuple[int, int]) -> dict[str, Any]:
        networks: dict[str, Any] = {"bridge": {"Aliases": None, "Gateway": "g"}, "n": {"Aliases": ["al"]}}
        document = {
            "Id": "0123456789abcdef",
            "Config": {"Hostname": "al", "MacAddress": "02:42:ac:11:00:77"},
            "NetworkSettings": {"Networks": networks},
        }
        return containers.inspect(document, version)

    def aliases(version: tuple[int, int]) -> list[object]:
        return [one["Aliases"] for one in inspect(version)["NetworkSettings"]["Networks"].values()]

    assert aliases((1, 44)) == [None, ["al", "0123456789ab"]] and aliases((1, 45)) == [None, ["al"]]
    assert "MacAddress" in inspect((1, 51))["Config"] and "MacAddress" not in inspect((1, 52))["Config"]
    assert inspect((1, 51))["NetworkSettings"]["Gateway"] == "g"
    assert "Gateway" not in inspect((1, 52))["NetworkSettings"]


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("", "default"),
        ("text/html", "default"),
        ("*/*", "a/1"),
        ("a/2", "a/2"),
        ("a/*, b/3;q=0.1", "a/1"),
        ("a/1;q=0.4, a/2;q=0.5, */*;q=0.1", "a/2"),
        ("a/1;q=0, a/2;q=bad", "default"),
        ("*/*, b/3", "b/3"),
    ],
)
def test_content_that_is_asked_for(accept: str, chosen: str) -> None:
    assert headers.negotiate(accept, ("a/1", "a/2", "b/3"), "default") == chosen


def test_configuration_of_an_image() -> None:
    def inspect(version: tuple[int, int]) -> dict[str, Any]:
        config = {"Cmd": ["sh"], "Hostname": "", "Healthcheck": {"Test": ["NONE"]}}
        return images.inspect({"Config": config, "Author": "", "Parent": "", "Size": 1}, version)

    new = inspect((1, 52))
    assert new["Config"].keys() == {"Cmd", "Healthcheck"} and inspect((1, 51))["Config"]["OnBuild"] is None
    assert new["Config"]["Healthcheck"] == {"Test": ["NONE"]}
    assert "Author" not in new and inspect((1, 50))["Author"] == ""
    assert inspect((1, 43))["VirtualSize"] == 1 and "Hostname" in inspect((1, 43))["Config"]
    assert "Container" not in new and "ContainerConfig" not in inspect((1, 45))
    assert inspect((1, 44))["Container"] == "" and inspect((1, 44))["ContainerConfig"]["Cmd"] is None
    assert list(inspect((1, 51)))[:3] == ["Author", "Config", "Parent"]
    assert inspect((1, 43))["Created"] == "0001-01-01T00:00:00Z" and "Created" not in inspect((1, 44))


def test_names_in_a_list() -> None:
    def names(version: tuple[int, int], *given: list[str]) -> tuple[object, object]:
        found = images.summary({"RepoTags": given[0], "RepoDigests": given[1], "Size": 1}, version)
        return found["RepoTags"], found["RepoDigests"]

    assert names((1, 43), [], []) == ([], [])
    assert names((1, 42), [], []) == (["<none>:<none>"], ["<none>@<none>"])
    assert names((1, 42), ["a:1"], []) == (["a:1"], None)
