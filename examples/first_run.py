"""``make run``: wharfd in the background on its own socket, and a first container.

Uses the docker command where there is one, else docker-py. The image is made from the host's
busybox: nothing is pulled. A daemon that runs already is used as it is.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.harness.images import busybox_archive
from tests.harness.readiness import answers, wait_until

EXEC_ROOT = Path("/run/wharfd")
SOCKET = EXEC_ROOT / "docker.sock"
LOG = EXEC_ROOT / "wharfd.log"
HOST = f"unix://{SOCKET}"
IMAGE = "busybox:latest"
COMMAND = ["sh", "-c", "echo Hello from wharfd, in a container called $(hostname); id; ps"]


def main() -> int:
    if os.geteuid() != 0:
        print("make run needs root: containers are made of namespaces, mounts and cgroups", file=sys.stderr)
        return 1
    if answers(SOCKET):
        print(f"wharfd is running on {HOST} already")
    elif not _start():
        return 1
    print(f"\n$ docker run --rm {IMAGE} {COMMAND[0]} -c '{COMMAND[2]}'")
    status = _by_command() if shutil.which("docker") else _by_library()
    if status == 0:
        print(f"\nwharfd goes on running. Point your client at it:\n\n    export DOCKER_HOST={HOST}\n")
        print(f"Its log is {LOG}; `make stop` ends it.")
    return status


def _start() -> bool:
    EXEC_ROOT.mkdir(mode=0o711, parents=True, exist_ok=True)
    wharfd = Path(sys.executable).parent / "wharfd"
    with LOG.open("ab") as log:
        process = subprocess.Popen(
            [wharfd, "-H", HOST], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    try:
        # /_ping is answered as soon as the API listens, /version by the engine.
        wait_until(
            lambda: process.poll() is not None or answers(SOCKET, "/version"), "wharfd is up", timeout=60
        )
    except TimeoutError as error:
        print(f"{error}; see {LOG}", file=sys.stderr)
        return False
    if process.poll() is not None:
        print(f"wharfd ended with status {process.returncode}:", file=sys.stderr)
        print("\n".join(LOG.read_text(errors="replace").splitlines()[-5:]), file=sys.stderr)
        return False
    print(f"wharfd is running on {HOST} (pid {process.pid})")
    return True


def _by_command() -> int:
    environment = {**os.environ, "DOCKER_HOST": HOST}
    environment.pop("DOCKER_CONTEXT", None)

    def docker(*arguments: str) -> int:
        return subprocess.run(["docker", *arguments], env=environment).returncode

    if subprocess.run(["docker", "image", "inspect", IMAGE], env=environment, capture_output=True).returncode:
        with tempfile.NamedTemporaryFile(suffix=".tar") as archive:
            archive.write(busybox_archive())
            archive.flush()
            if status := docker("load", "--quiet", "--input", archive.name):
                return status
    return docker("run", "--rm", IMAGE, *COMMAND)


def _by_library() -> int:
    import docker

    client = docker.DockerClient(base_url=HOST)
    try:
        if not client.images.list(IMAGE):
            client.images.load(busybox_archive())
        print(client.containers.run(IMAGE, COMMAND, remove=True, stderr=True).decode(), end="")
    except docker.errors.DockerException as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        client.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
