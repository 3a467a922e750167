"""spec and features: documents about the runtime itself."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import msgspec

from services.containerd_shim.runtime import caps, lsm, mounts, namespaces, seccomp, seccomp_default
from services.containerd_shim.runtime.command.store import Store
from services.containerd_shim.runtime.planning import OCI_VERSION
from services.protocol import oci
from services.protocol.errors import Conflict, Unimplemented

_CAPABILITIES = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]
_MASKED = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/sys/firmware",
    "/proc/scsi",
]
_READ_ONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]


def spec(_store: Store, arguments: argparse.Namespace) -> int:
    """Write a ``config.json`` to start from."""
    if arguments.rootless:
        raise Unimplemented("--rootless is not implemented")
    path = Path(arguments.bundle) / "config.json"
    if path.exists():
        raise Conflict("File config.json exists. Remove it first")
    path.write_bytes(msgspec.json.format(msgspec.json.encode(_example()), indent=4))
    return 0


def _mount(destination: str, kind: str, *options: str) -> oci.Mount:
    return oci.Mount(destination=destination, type=kind, source=kind, options=list(options))


def _example() -> oci.Spec:
    kernel = ("nosuid", "noexec", "nodev")
    return oci.Spec(
        oci_version=OCI_VERSION,
        process=oci.Process(
            terminal=True,
            args=["sh"],
            env=["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            cwd="/",
            capabilities=oci.Capabilities(
                bounding=_CAPABILITIES, effective=_CAPABILITIES, permitted=_CAPABILITIES
            ),
            rlimits=[oci.Rlimit(type="RLIMIT_NOFILE", soft=1024, hard=1024)],
            no_new_privileges=True,
        ),
        root=oci.Root(path="rootfs", readonly=True),
        hostname="runc",
        mounts=[
            oci.Mount(destination="/proc", type="proc", source="proc"),
            _mount("/dev", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
            _mount(
                "/dev/pts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"
            ),
            _mount("/dev/shm", "tmpfs", *kernel, "mode=1777", "size=65536k"),
            _mount("/dev/mqueue", "mqueue", *kernel),
            _mount("/sys", "sysfs", *kernel, "ro"),
            _mount("/sys/fs/cgroup", "cgroup", *kernel, "relatime", "ro"),
        ],
        linux=oci.Linux(
            resources=oci.Resources(devices=[oci.DeviceCgroup(allow=False)]),
            namespaces=[
                oci.Namespace(type=kind) for kind in ("pid", "network", "ipc", "uts", "mount", "cgroup")
            ],
            masked_paths=_MASKED,
            readonly_paths=_READ_ONLY,
        ),
    )


def features(_store: Store, _arguments: argparse.Namespace) -> int:
    """What the runtime supports, as the runtime specification's features document."""
    document = {
        "ociVersionMin": "1.0.0",
        "ociVersionMax": OCI_VERSION,
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": mounts.option_names(),
        "linux": {
            "namespaces": sorted(namespaces.FLAGS),
            "capabilities": caps.NAMES[: caps.LAST + 1],
            "cgroup": {"v1": True, "v2": True, "systemd": False, "systemdUser": False, "rdma": False},
            "seccomp": {
                "enabled": seccomp.available(),
                "actions": seccomp.action_names(),
                "operators": seccomp.operator_names(),
                "archs": sorted({name for names in seccomp_default.ARCHITECTURES.values() for name in names}),
                "knownFlags": seccomp.flag_names(),
                "supportedFlags": seccomp.flag_names(),
            },
            "apparmor": {"enabled": lsm.APPARMOR},
            "selinux": {"enabled": lsm.SELINUX},
            "intelRdt": {"enabled": False},
            "mountExtensions": {"idmap": {"enabled": False}},
        },
    }
    print(json.dumps(document, indent=4))
    return 0
