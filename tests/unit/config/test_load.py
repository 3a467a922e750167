"""Flags, file and defaults to settings: precedence, conflicts, refusals."""

from __future__ import annotations

import json
import os
from pathlib import Path

import msgspec
import pytest

from services.engine.config.file import ConfigError
from services.engine.config.load import invocation
from services.engine.config.options import BY_FIELD, OPTIONS
from services.engine.config.usage import usage
from services.protocol import settings as settings_file
from services.protocol.settings import AddressPool, Settings


@pytest.fixture
def daemon_json(tmp_path: Path) -> Path:
    path = tmp_path / "daemon.json"
    path.write_text("{}")
    return path


def load(path: Path, *argv: str) -> Settings:
    return invocation(["--config-file", str(path), *argv]).settings


def test_defaults_are_those_of_the_settings(daemon_json: Path) -> None:
    settings = load(daemon_json)
    assert settings.hosts == [settings_file.DEFAULT_HOST]
    assert settings.default_cgroupns_mode in ("host", "private")
    defaults = Settings(
        hosts=settings.hosts,
        config_file=str(daemon_json),
        default_cgroupns_mode=settings.default_cgroupns_mode,
    )
    assert settings == defaults


def test_every_implemented_option_has_its_setting() -> None:
    fields = {field.name for field in msgspec.structs.fields(Settings)}
    assert set(BY_FIELD) <= fields


def test_file_is_merged(daemon_json: Path) -> None:
    daemon_json.write_text(
        json.dumps(
            {
                "debug": True,
                "hosts": ["tcp://:1234"],
                "labels": ["a=b"],
                "default-address-pools": [{"base": "10.9.0.0/16", "size": 24}],
                "default-ulimits": {"nofile": {"Name": "nofile", "Soft": 1, "Hard": 2}},
                "log-opts": {"max-size": "1m"},
                "default-shm-size": "1g",
            }
        )
    )
    settings = load(daemon_json, "--bridge", "br9")
    assert (settings.debug, settings.log_level) == (True, "debug")
    assert settings.hosts == ["tcp://localhost:1234"]
    assert settings.default_address_pools == [AddressPool("10.9.0.0/16", 24)]
    assert settings.default_ulimits[0].hard == 2
    assert (settings.default_shm_size, settings.log_opts) == (1 << 30, {"max-size": "1m"})
    assert settings.bridge == "br9"


def test_paths_follow_the_exec_root(daemon_json: Path) -> None:
    settings = load(daemon_json, "--exec-root", "relative/x")
    assert settings.exec_root == os.path.abspath("relative/x")
    assert settings.pidfile == f"{settings.exec_root}/wharfd.pid"


@pytest.mark.parametrize(
    ("document", "argv", "text"),
    [
        (
            {"debug": True, "labels": ["a=b"]},
            ["-D=false", "--label", "c=d"],
            "the following directives are specified both as a flag and in the configuration file: "
            "debug: (from flag: false, from file: true), labels: (from flag: [c=d], from file: [a=b])",
        ),
        (
            {"proxies": {"http-proxy": "http://me:hidden@one"}},
            ["--http-proxy", "http://me:hidden@two"],
            "http-proxy: (from flag: http://xxxxx:xxxxx@two, from file: http://xxxxx:xxxxx@one)",
        ),
        (
            {"nope": 1, "also": 2},
            [],
            "the following directives don't match any configuration option: also, nope",
        ),
        ({"debug": "yes"}, [], "debug: cannot unmarshal string into a value of type bool"),
        ({"userns-remap": "x"}, [], "--userns-remap is not implemented by wharfd"),
        ({"features": {"x": True}}, [], "--feature is not implemented by wharfd"),
    ],
)
def test_file_is_refused(daemon_json: Path, document: object, argv: list[str], text: str) -> None:
    daemon_json.write_text(json.dumps(document))
    with pytest.raises(ConfigError) as caught:
        load(daemon_json, *argv)
    assert text in str(caught.value)


def test_broken_or_absent_file(daemon_json: Path) -> None:
    daemon_json.write_text("{")
    with pytest.raises(ConfigError, match="unable to configure the Docker daemon with file"):
        load(daemon_json)
    daemon_json.unlink()
    with pytest.raises(ConfigError, match="no such file or directory"):
        load(daemon_json)


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["-b", "x", "--bip", "10.0.0.1/24"], "mutually exclusive options"),
        (["--icc=false", "--iptables=false"], "ICC=false uses iptables to function"),
        (["--iptables=false"], "IP masquerading uses iptables to function"),
        (["--iptables=false", "--ip-masq=false"], "--iptables=false is not implemented by wharfd"),
        (["--bip", "10.0.0.1"], "invalid CIDR address: 10.0.0.1"),
        (["--fixed-cidr", "x"], "invalid CIDR address: x"),
        (
            ["--storage-driver", "btrfs", "--selinux-enabled"],
            "SELinux is not supported with the BTRFS graph driver",
        ),
        (["--log-driver", "splunk"], "no log driver named 'splunk' is registered"),
        (["--registry-mirror", "mirror:5000"], 'no scheme specified for "mirror:5000"'),
        (["--registry-mirror", "ftp://mirror"], 'unsupported scheme "ftp" in "ftp://mirror"'),
        (["--registry-mirror", "http://mirror/path"], "path, query, or fragment at end of the URI"),
        (["--max-concurrent-downloads", "-1"], "invalid max concurrent downloads: -1"),
        (["--max-download-attempts", "0"], "invalid max download attempts: 0"),
        (["--log-level", "loud"], "invalid logging level: loud"),
        (["--default-runtime", "kata"], "specified default runtime 'kata' does not exist"),
        (["--default-ipc-mode", "host"], 'IPC mode "host" is not supported as default value'),
        (["--label", "a=1", "--label", "a=2"], "conflict labels for a=2 and a=1"),
        (["--seccomp-profile", "/nonexistent"], "opening seccomp profile (/nonexistent) failed"),
        (["-H", "ftp://x"], "invalid bind address (ftp://x): unsupported proto 'ftp'"),
        (["--exec-opt", "native.cgroupdriver=systemd"], "is not implemented by wharfd"),
        (["--userland-proxy-path", "/x"], "--userland-proxy-path is not implemented by wharfd"),
    ],
)
def test_configuration_is_refused(daemon_json: Path, argv: list[str], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(daemon_json, *argv)
    assert text in str(caught.value)


def test_defaults_of_refused_options_are_fine(daemon_json: Path) -> None:
    load(daemon_json, "--containerd-namespace", "moby", "--userns-remap", "", "--ipv6=false")
    load(daemon_json, "--exec-opt", "native.cgroupdriver=cgroupfs", "--firewall-backend", "nftables")
    load(daemon_json, "--userland-proxy=false")


@pytest.mark.parametrize("option", [option for option in OPTIONS if not option.field], ids=lambda o: o.flag)
def test_what_is_not_implemented_is_refused_by_name(option: object, daemon_json: Path) -> None:
    if option.only_flag:  # type: ignore[attr-defined]
        return
    words = {"": "=" + ("false" if option.default else "true"), "int": "=77", "runtime": "=x=/y"}  # type: ignore[attr-defined]
    value = words.get(option.kind.word, "=x=y" if option.kind.word.startswith(("ma", "nri")) else "=10.1.2.3")  # type: ignore[attr-defined]
    if option.flag in ("iptables", "feature", "userland-proxy"):  # type: ignore[attr-defined]
        return  # have tests of their own
    with pytest.raises(ConfigError, match=f"--{option.flag}.* is not implemented by wharfd"):  # type: ignore[attr-defined]
        load(daemon_json, f"--{option.flag}{value}")  # type: ignore[attr-defined]


def test_usage_names_every_flag_in_dockerd_s_layout() -> None:
    lines = usage().splitlines()
    assert "  -b, --bridge string                         Attach containers to a" in lines
    assert "      --default-ulimit ulimit                 Default ulimits for" in lines
    assert sum(line.startswith(("      --", "  -")) for line in lines) == len(OPTIONS)


def test_usage_is_dockerd_s() -> None:
    reference = Path(__file__).parents[4] / "shared/reference/dockerd-help.txt"
    if not reference.exists():
        pytest.skip("the reference text is not at hand")
    theirs = reference.read_text().strip("\n").splitlines()
    ours = usage().splitlines()
    differing = [(a, b) for a, b in zip(theirs, ours, strict=True) if a != b]
    assert [line.split()[-1] for _, line in differing] == [
        "[OPTIONS]",
        '"/var/lib/wharfd")',
        '"/run/wharfd")',
        '"/run/wharfd/wharfd.pid")',
    ]
