"""Documents by API version."""

from __future__ import annotations

from typing import Any

from services.apiserver.views import images, system


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


def test_configuration_of_an_image() -> None:
    def inspect(version: tuple[int, int]) -> dict[str, Any]:
        config = {"Cmd": ["sh"], "Hostname": "", "Healthcheck": {"Test": ["NONE"]}}
        return images.inspect({"Config": config, "Author": "", "Parent": "", "Size": 1}, version)

    new = inspect((1, 52))
    assert "Hostname" not in new["Config"] and new["Config"]["OnBuild"] is None
    assert new["Config"]["Healthcheck"] == {"Test": ["NONE"]}
    assert "Author" not in new and inspect((1, 50))["Author"] == ""
    assert inspect((1, 43))["VirtualSize"] == 1 and "Hostname" in inspect((1, 43))["Config"]
    assert "Container" not in new and "ContainerConfig" not in inspect((1, 45))
    assert inspect((1, 44))["Container"] == "" and inspect((1, 44))["ContainerConfig"]["Cmd"] is None
    assert inspect((1, 43))["Created"] == "0001-01-01T00:00:00Z" and "Created" not in inspect((1, 44))


def test_names_in_a_list() -> None:
    def names(version: tuple[int, int], *given: list[str]) -> tuple[object, object]:
        found = images.summary({"RepoTags": given[0], "RepoDigests": given[1], "Size": 1}, version)
        return found["RepoTags"], found["RepoDigests"]

    assert names((1, 43), [], []) == ([], [])
    assert names((1, 42), [], []) == (["<none>:<none>"], ["<none>@<none>"])
    assert names((1, 42), ["a:1"], []) == (["a:1"], None)
