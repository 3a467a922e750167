"""The measures. Each takes a running daemon and returns samples in its unit; nothing is left behind."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from bench import builds, images
from bench.client import Client
from bench.engines import Daemon

SLEEP = ("sleep", "100000")


@dataclass(frozen=True)
class Scale:
    """How much is measured."""

    repeats: int
    batch_repeats: int
    containers: int
    many: int
    megabytes: int
    starts: int
    files: int
    rounds: int
    image_megabytes: int
    image_files: int
    images: int


FULL = Scale(
    repeats=20,
    batch_repeats=3,
    containers=40,
    many=400,
    megabytes=200,
    starts=5,
    files=20_000,
    rounds=1_000_000,
    image_megabytes=500,
    image_files=30_000,
    images=500,
)
QUICK = Scale(
    repeats=5,
    batch_repeats=1,
    containers=10,
    many=40,
    megabytes=20,
    starts=2,
    files=2_000,
    rounds=200_000,
    image_megabytes=50,
    image_files=3_000,
    images=50,
)

Samples = dict[str, list[float]]


def _seconds(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def command_run(daemon: Daemon, scale: Scale) -> Samples:
    def run() -> None:
        daemon.docker("run", "--rm", "busybox", "true")

    run()
    return {"docker run --rm busybox true": [1000 * _seconds(run) for _ in range(scale.repeats)]}


def life(daemon: Daemon, scale: Scale) -> Samples:
    """Create, start, wait and remove by the API; start also on its own."""
    client = Client(daemon.socket)
    whole, starts = [], []
    for turn in range(scale.repeats + 1):
        began = time.perf_counter()
        identity = client.create("true")
        start = _seconds(lambda identity=identity: client.start(identity))  # type: ignore[misc]
        client.wait(identity)
        client.remove(identity)
        if turn:
            whole.append(1000 * (time.perf_counter() - began))
            starts.append(1000 * start)
    return {"API create+start+wait+remove": whole, "API start": starts}


def execs(daemon: Daemon, scale: Scale) -> Samples:
    client = Client(daemon.socket)
    identity = client.create(*SLEEP)
    client.start(identity)
    client.run_exec(identity, "true")
    samples = [1000 * _seconds(lambda: client.run_exec(identity, "true")) for _ in range(scale.repeats)]
    client.remove(identity, force=True)
    return {"exec of true by API": samples}


def concurrent(daemon: Daemon, scale: Scale) -> Samples:
    """Starts at 10 at a time, and the removal of what was started by one docker command."""
    starts, removals, lists = [], [], []
    for _ in range(scale.batch_repeats):
        client = Client(daemon.socket)
        identities = [client.create(*SLEEP) for _ in range(scale.containers)]

        def start(identity: str) -> None:
            one = Client(daemon.socket)
            one.start(identity)
            one.close()

        with ThreadPoolExecutor(10) as pool:
            starts.append(_seconds(lambda i=identities, p=pool: list(p.map(start, i))))  # type: ignore[misc]
        lists += [1000 * _seconds(lambda c=client: c.get("/containers/json")) for _ in range(scale.repeats)]  # type: ignore[misc]
        removals.append(_seconds(lambda i=identities: daemon.docker("rm", "-f", *i)))  # type: ignore[misc]
    return {
        f"{scale.containers} starts, 10 concurrent": starts,
        f"docker rm -f of {scale.containers}": removals,
        f"list of {scale.containers} running": lists,
    }


def listing(daemon: Daemon, scale: Scale) -> Samples:
    client = Client(daemon.socket)
    identities = [client.create("true") for _ in range(scale.many)]
    samples = [1000 * _seconds(lambda: client.get("/containers/json?all=1")) for _ in range(scale.repeats)]
    for identity in identities:
        client.remove(identity)
    return {f"list of {scale.many}": samples}


def memory(daemon: Daemon, scale: Scale) -> Samples:
    client = Client(daemon.socket)
    time.sleep(2)
    idle = daemon.pss(set())
    identities = {client.create(*SLEEP) for _ in range(scale.containers)}
    for identity in identities:
        client.start(identity)
    time.sleep(2)
    loaded = daemon.pss(identities)
    for identity in identities:
        client.remove(identity, force=True)
    return {"PSS idle": [idle], "PSS per running container": [(loaded - idle) / len(identities)]}


def _lines(megabytes: int) -> tuple[str, ...]:
    line = "0123456789" * 9 + "012345678"
    return "sh", "-c", f"yes {line} | head -c {megabytes * 1_000_000}"


def log_throughput(daemon: Daemon, scale: Scale) -> Samples:
    """A container that writes lines to its json-file log, from start to exit."""
    client = Client(daemon.socket)
    samples = []
    for _ in range(scale.batch_repeats):
        identity = client.create(*_lines(scale.megabytes))
        began = time.perf_counter()
        client.start(identity)
        client.wait(identity)
        samples.append(scale.megabytes / (time.perf_counter() - began))
        client.remove(identity)
    return {"log throughput": samples}


def attach_throughput(daemon: Daemon, scale: Scale) -> Samples:
    """An attached client of a container without a log, from start to the end of the stream."""
    client = Client(daemon.socket)
    samples = []
    for _ in range(scale.batch_repeats):
        identity = client.create(*_lines(scale.megabytes), LogConfig={"Type": "none", "Config": {}})
        connection = client.attach(identity)
        buffer = bytearray(1 << 20)
        began = time.perf_counter()
        client.start(identity)
        received = 0
        while count := connection.recv_into(buffer):
            received += count
        samples.append(scale.megabytes / (time.perf_counter() - began))
        if received < scale.megabytes * 1_000_000:
            raise RuntimeError(f"{daemon.name} streamed only {received} bytes")
        connection.close()
        client.wait(identity)
        client.remove(identity)
    return {"attach throughput": samples}


def start_up(daemon: Daemon, scale: Scale) -> Samples:
    pings, versions = [], []
    for _ in range(scale.starts):
        daemon.stop()
        ping, version = daemon.start()
        pings.append(1000 * ping)
        versions.append(1000 * version)
    return {"daemon start to /_ping": pings, "daemon start to /version": versions}


def build_steps(daemon: Daemon, scale: Scale) -> Samples:
    return builds.steps(daemon, scale.repeats)


def build_files(daemon: Daemon, scale: Scale) -> Samples:
    """A large context of small files, sent and copied."""
    return builds.files(daemon, scale.batch_repeats, scale.files)


def build_stages(daemon: Daemon, scale: Scale) -> Samples:
    """Independent stages, each with a command that takes a whole core."""
    return builds.stages(daemon, scale.batch_repeats, scale.rounds)


def image_pull(daemon: Daemon, scale: Scale) -> Samples:
    size = scale.image_megabytes
    seconds, peak = images.pull(daemon, size, scale.image_files, scale.batch_repeats)
    return {f"pull of {size} MB": seconds, "peak PSS of that, above idle": [peak]}


def image_load_save(daemon: Daemon, scale: Scale) -> Samples:
    size = scale.image_megabytes
    loads, saves = images.load_and_save(daemon, size, scale.image_files, scale.batch_repeats)
    return {f"load of {size} MB": loads, f"save of {size} MB": saves}


def image_list(daemon: Daemon, scale: Scale) -> Samples:
    return {f"list of {scale.images} images": images.many(daemon, scale.images, scale.repeats)}


#: Function, units of its rows (by how their names begin), whether more is better.
MEASURES: tuple[tuple[Callable[[Daemon, Scale], Samples], dict[str, str], bool], ...] = (
    (start_up, {"": "ms"}, False),
    (memory, {"": "MB"}, False),
    (command_run, {"": "ms"}, False),
    (life, {"": "ms"}, False),
    (execs, {"": "ms"}, False),
    (concurrent, {"": "s", "list": "ms"}, False),
    (listing, {"": "ms"}, False),
    (log_throughput, {"": "MB/s"}, True),
    (attach_throughput, {"": "MB/s"}, True),
    (build_steps, {"": "ms"}, False),
    (build_files, {"": "ms"}, False),
    (build_stages, {"": "ms"}, False),
    (image_pull, {"": "s", "peak": "MB"}, False),
    (image_load_save, {"": "s"}, False),
    (image_list, {"": "ms"}, False),
)
