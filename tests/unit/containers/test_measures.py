"""``top`` and ``stats``: what is made of ps(1)'s output and of cgroup counters."""

from __future__ import annotations

import pytest

from services.engine.containers.stats import interfaces, system_cpu
from services.engine.containers.stats_document import Counters, document, empty_document
from services.engine.containers.top import check_ps_args, parse
from services.protocol.errors import SystemError_, WharfError
from services.protocol.metrics import (
    BlkioEntry,
    BlkioMetrics,
    CpuMetrics,
    MemoryMetrics,
    Metrics,
    PidsMetrics,
    decode,
    encode,
)

PS = """UID          PID    PPID  C STIME TTY          TIME CMD
root           1       0  0 10:00 ?        00:00:01 /sbin/init
root          42       1  0 10:01 ?        00:00:00 sleep 100  x
"""


def test_top_keeps_the_containers_processes() -> None:
    reply = parse(PS, {42})
    assert reply.titles[-1] == "CMD"
    assert reply.processes == [["root", "42", "1", "0", "10:01", "?", "00:00:00", "sleep 100 x"]]
    assert parse("PID CMD\n1 a\u00a0b\x0bc\u2028 d\n", {1}).processes == [["1", "a\u00a0b\x0bc\u2028 d"]]


def test_top_needs_a_pid_column() -> None:
    with pytest.raises(WharfError, match="Couldn't find PID field in ps output"):
        parse("CMD\nsh\n", {1})
    with pytest.raises(SystemError_, match='^specifying "comm=PID" is not allowed$'):
        check_ps_args("-o comm=PID")
    with pytest.raises(SystemError_, match='^Unexpected pid .x.: strconv.Atoi: parsing "x": invalid syntax$'):
        parse("PID CMD\nx sh\n", {1})
    check_ps_args("-o pid=PID,comm")


def metrics() -> Metrics:
    return Metrics(
        cpu=CpuMetrics(total=100, user=60, kernel=40, per_cpu=[70, 30], periods=3, throttled_periods=1),
        memory=MemoryMetrics(usage=4096, max_usage=8192, limit=1 << 63, stats={"cache": 1}),
        pids=PidsMetrics(current=2, limit=50),
        blkio=BlkioMetrics(service_bytes=[BlkioEntry(major=8, minor=0, op="Read", value=512)]),
    )


def test_document() -> None:
    counters = Counters(decode(encode(metrics())), 5, (1000, 2), {"eth0": {"rx_bytes": 1}})
    shown = document(counters, None)
    assert shown["cpu_stats"] == {
        "cpu_usage": {
            "total_usage": 100, "usage_in_kernelmode": 40, "usage_in_usermode": 60, "percpu_usage": [70, 30],
        },
        "system_cpu_usage": 1000,
        "online_cpus": 2,
        "throttling_data": {"periods": 3, "throttled_periods": 1, "throttled_time": 0},
    }  # fmt: skip
    assert shown["memory_stats"]["limit"] < 1 << 62  # that of the host
    assert shown["pids_stats"] == {"current": 2, "limit": 50}
    assert shown["blkio_stats"]["io_service_bytes_recursive"] == [
        {"major": 8, "minor": 0, "op": "Read", "value": 512}
    ]
    assert shown["networks"] == {"eth0": {"rx_bytes": 1}}
    assert "system_cpu_usage" not in shown["precpu_stats"]
    assert document(counters, counters)["precpu_stats"]["online_cpus"] == 2


def test_a_container_that_does_not_run_has_empty_statistics() -> None:
    shown = empty_document("/x", "id")
    assert shown["read"] == "0001-01-01T00:00:00Z"
    assert shown["memory_stats"] == {}
    assert shown["os_type"] == "linux"


def test_host_counters() -> None:
    stat = "cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 1 1 1\ncpu1 1 1 1\nintr 1\n"
    assert system_cpu(stat) == (28 * 10_000_000, 2)
    dev = (
        "Inter-| Receive | Transmit\n face |bytes\n"
        "    lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n"
        "  eth0: 10 2 3 4 0 0 0 0 50 6 7 8 0 0 0 0\n"
    )
    assert interfaces(dev) == {
        "eth0": {
            "rx_bytes": 10, "rx_packets": 2, "rx_errors": 3, "rx_dropped": 4,
            "tx_bytes": 50, "tx_packets": 6, "tx_errors": 7, "tx_dropped": 8,
        }
    }  # fmt: skip
