"""``ps``: rows, order, filters and their refusals; pruning, renaming, updating."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from services.engine.containers.filters import parse_until
from services.engine.containers.listing import list_containers, ports
from services.engine.containers.model import ContainerState, HealthState, Status
from services.engine.containers.prune import prune
from services.engine.containers.rename import rename
from services.engine.containers.status_text import ago, status_text
from services.engine.containers.update import update
from services.protocol import jsonshape
from services.protocol.api.containers import PortBinding, UpdateRequest
from services.protocol.api.networks import EndpointIPAMConfig, EndpointSettings
from services.protocol.errors import ErrorKind, WharfError
from services.protocol.verbs import Filters
from services.protocol.verbs.containers import ListArgs, RenameArgs, UpdateArgs
from tests.unit.containers.world import World, run

SECOND = 1_000_000_000


def listed(
    world: World, filters: dict[str, list[str]] | None = None, *, all: bool = True, limit: int = 0
) -> Any:
    rows = run(list_containers(world.services, ListArgs(all=all, limit=limit, filters=filters or {})))
    return [row.names[0].removeprefix("/") for row in rows]


@pytest.fixture
def three(world: World) -> World:
    run(world.made({"Labels": {"tier": "web", "env": "dev"}}, "created1"))
    one = run(world.made({"Labels": {"tier": "db"}, "ExposedPorts": {"99/tcp": {}}}, "run1"))
    one.state = ContainerState(
        status=Status.RUNNING, pid=7, started_at=1, health=HealthState(status="healthy")
    )
    one.state.ports = {"80/tcp": [PortBinding(host_ip="127.0.0.1", host_port="18080")]}
    two = run(world.made({"HostConfig": {"Binds": ["vol1:/data"]}}, "exit3"))
    two.state = ContainerState(status=Status.EXITED, exit_code=3, started_at=1, finished_at=2)
    return world


def test_order_and_default(three: World) -> None:
    assert listed(three) == ["exit3", "run1", "created1"]
    assert listed(three, all=False) == ["run1"]
    assert listed(three, all=False, limit=2) == ["exit3", "run1"]


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ({"status": ["created", "exited"]}, ["exit3", "created1"]),
        ({"name": ["^/run1$"]}, ["run1"]),
        ({"name": ["e"]}, ["exit3", "created1"]),
        ({"name": ["("]}, []),
        ({"label": ["tier"]}, ["run1", "created1"]),
        ({"label": ["tier=web", "env=dev"]}, ["created1"]),
        ({"exited": ["3", "4"]}, ["exit3"]),
        ({"exited": ["0"]}, []),
        ({"ancestor": ["busybox:latest"]}, ["exit3", "run1", "created1"]),
        ({"ancestor": ["nosuch"]}, []),
        ({"volume": ["vol1"]}, ["exit3"]),
        ({"volume": ["/data"]}, ["exit3"]),
        ({"network": ["bridge"]}, ["exit3", "run1", "created1"]),
        ({"before": ["run1"]}, ["created1"]),
        ({"since": ["run1"]}, ["exit3"]),
        ({"publish": ["18080"]}, ["run1"]),
        ({"publish": ["80"]}, []),
        ({"expose": ["90-100/tcp"]}, ["run1"]),
        ({"expose": ["99/udp"]}, []),
        ({"expose": ["90-100/TCP"]}, ["run1"]),
        ({"expose": ["99/foo"]}, []),
        ({"health": ["healthy"]}, ["run1"]),
        ({"health": ["none"]}, ["exit3", "created1"]),
        ({"id": ["zzzz"]}, []),
        ({"is-task": ["false"]}, ["exit3", "run1", "created1"]),
        ({"is-task": ["true"]}, []),
    ],
    ids=str,
)
def test_filters(three: World, filters: dict[str, list[str]], names: list[str]) -> None:
    assert listed(three, filters) == names


@pytest.mark.parametrize(
    ("filters", "kind", "text"),
    [
        ({"bogus": ["1"]}, ErrorKind.INVALID_PARAMETER, "invalid filter 'bogus'"),
        (
            {"status": ["bogus"]},
            ErrorKind.INVALID_PARAMETER,
            "invalid filter 'status=bogus': invalid value for state (bogus): "
            "must be one of created, running, paused, restarting, removing, exited, dead",
        ),
        (
            {"health": ["sick"]},
            ErrorKind.INVALID_PARAMETER,
            "invalid filter 'health=sick': invalid value for health (sick): "
            "must be one of none, starting, healthy, unhealthy",
        ),
        (
            {"exited": ["x"]},
            ErrorKind.INVALID_PARAMETER,
            "invalid filter 'exited=x': strconv.Atoi: parsing \"x\": invalid syntax",
        ),
        ({"is-task": ["maybe"]}, ErrorKind.INVALID_PARAMETER, "invalid filter 'is-task=[maybe]'"),
        ({"since": ["nosuch"]}, ErrorKind.NOT_FOUND, "No such container: nosuch"),
        ({"before": [""]}, ErrorKind.NOT_FOUND, "No such container: "),
        (
            {"exited": ["9" * 20]},
            ErrorKind.INVALID_PARAMETER,
            f"invalid filter 'exited={'9' * 20}': strconv.Atoi: parsing \"{'9' * 20}\": value out of range",
        ),
        (
            {"publish": ["1.1.1.1:80"]},
            ErrorKind.INVALID_PARAMETER,
            "filter for 'publish' should not contain ':': 1.1.1.1:80",
        ),
        *(
            (
                {"expose": [ports]},
                ErrorKind.INVALID_PARAMETER,
                f"error while looking up for expose {ports}: {text}",
            )
            for ports, text in (
                ("", "invalid port range: value is empty"),
                ("x", "invalid start port 'x': invalid syntax"),
                ("/udp", "invalid start port '': value is empty"),
                ("80-65536", "invalid end port '65536': value out of range"),
                ("90-80/tcp", "invalid port range: 90-80/tcp"),
            )
        ),
    ],
    ids=str,
)
def test_bad_filters(three: World, filters: dict[str, list[str]], kind: ErrorKind, text: str) -> None:
    with pytest.raises(WharfError) as raised:
        listed(three, filters)
    assert (raised.value.kind, str(raised.value)) == (kind, text)


def test_no_part_of_an_id_stands_for_a_container(three: World) -> None:
    whole = three.services.registry.get("run1").id
    assert listed(three, {"before": [whole]}) == ["created1"]
    with pytest.raises(WharfError, match=f"^No such container: {whole[:12]}$"):
        listed(three, {"before": [whole[:12]]})


def test_row(three: World) -> None:
    row = run(list_containers(three.services, ListArgs(filters={"name": ["run1"]}, size=True)))[0]
    document = msgspec.to_builtins(row)
    assert document["Command"] == "sh"
    assert document["Image"] == "busybox"
    assert document["Ports"] == [{"IP": "127.0.0.1", "PrivatePort": 80, "PublicPort": 18080, "Type": "tcp"}]
    assert document["Status"].endswith("(healthy)")
    assert document["HostConfig"] == {"NetworkMode": "bridge"}
    assert (document["SizeRw"], document["SizeRootFs"]) == (5, 1000)


def test_endpoints_show_their_addresses_only(three: World) -> None:
    entry = three.services.registry.get("run1")
    entry.state.endpoints = {
        "n1": EndpointSettings(
            ipam_config=EndpointIPAMConfig(ipv4_address="10.0.0.9", link_local_ips=["169.254.3.3"]),
            links=["other:alias"],
            aliases=["web"],
            driver_opts={"a": "b"},
            dns_names=["run1", "web"],
            network_id="1" * 64,
            ip_address="10.0.0.9",
            gw_priority=5,
        )
    }
    row = run(list_containers(three.services, ListArgs(filters={"name": ["run1"]})))[0]
    shown = msgspec.to_builtins(row)["NetworkSettings"]["Networks"]["n1"]
    assert shown["IPAMConfig"] == {"IPv4Address": "10.0.0.9"}
    assert [shown[name] for name in ("Links", "Aliases", "DriverOpts", "DNSNames")] == [None] * 4
    assert (shown["NetworkID"], shown["IPAddress"], shown["GwPriority"]) == ("1" * 64, "10.0.0.9", 5)


def test_a_retagged_image_is_shown_by_id(three: World) -> None:
    three.images.configs["other"] = three.images.configs.pop("busybox")
    row = run(list_containers(three.services, ListArgs(filters={"name": ["run1"]})))[0]
    assert row.image == "sha256:busybox"


def test_command_is_quoted_where_it_has_spaces(world: World) -> None:
    run(world.made({"Cmd": ["echo", "a  b", "c'd", '"q"']}))
    assert run(list_containers(world.services, ListArgs(all=True)))[0].command == "echo 'a  b' c'd \"q\""


def test_unpublished_ports() -> None:
    rows = [msgspec.to_builtins(row) for row in ports({"7000/tcp": None})]
    assert rows == [{"IP": "", "PrivatePort": 7000, "Type": "tcp"}]


@pytest.mark.parametrize(
    ("state", "text"),
    [
        (ContainerState(status=Status.RUNNING, started_at=SECOND), "Up 4 seconds"),
        (ContainerState(status=Status.PAUSED, started_at=SECOND), "Up 4 seconds (Paused)"),
        (
            ContainerState(status=Status.RUNNING, started_at=SECOND, health=HealthState()),
            "Up 4 seconds (health: starting)",
        ),
        (ContainerState(status=Status.EXITED, exit_code=2, finished_at=SECOND), "Exited (2) 4 seconds ago"),
        (
            ContainerState(status=Status.RESTARTING, exit_code=1, finished_at=SECOND),
            "Restarting (1) 4 seconds ago",
        ),
        (ContainerState(), "Created"),
    ],
)
def test_status(state: ContainerState, text: str) -> None:
    assert status_text(state, 5 * SECOND) == text


def test_ago() -> None:
    hour = 3600
    for seconds, text in (
        (0, "Less than a second"), (1, "1 second"), (59, "59 seconds"), (60, "About a minute"),
        (150, "2 minutes"), (hour, "About an hour"), (47 * hour, "47 hours"), (72 * hour, "3 days"),
        (24 * 21 * hour, "3 weeks"), (24 * 90 * hour, "3 months"), (24 * 365 * 3 * hour, "3 years"),
    ):  # fmt: skip
        assert ago(seconds * SECOND) == text


def test_prune(three: World) -> None:
    assert run(prune(three.services, Filters({"label": ["nope"]}))).containers_deleted is None
    reply = run(prune(three.services, Filters({})))
    assert len(reply.containers_deleted or []) == 2 and reply.space_reclaimed == 10
    assert listed(three) == ["run1"]
    with pytest.raises(WharfError, match="invalid filter 'status'"):
        run(prune(three.services, Filters({"status": ["x"]})))


def test_until() -> None:
    assert parse_until("1h30m", 10_000.0) == 10_000.0 - 5400
    assert parse_until("1700000000", 0.0) == 1_700_000_000.0
    assert parse_until("2000-01-01T00:00:00Z", 0.0) == 946_684_800.0
    assert parse_until("2000-01-01T00Z", 0.0) == 946_684_800.0
    with pytest.raises(WharfError) as raised:
        parse_until("bogus", 0.0)
    assert str(raised.value) == (
        'failed to parse value as time or duration: invalid seconds "bogus": invalid syntax'
    )


def test_rename(three: World) -> None:
    run(rename(three.services, RenameArgs("run1", "/run2")))
    assert three.actions[-1] == (
        "rename",
        {"tier": "db", "image": "busybox", "name": "run2", "oldName": "/run1"},
    )
    for new, text in (
        ("run2", "Renaming a container with the same name as its current name"),
        ("exit3", 'Error when allocating new name: Conflict. The container name "/exit3" is already in use'),
        ("bad name!", r"Error when allocating new name: Invalid container name \(/bad name!\), only"),
        ("", "Neither old nor new names may be empty"),
    ):
        with pytest.raises(WharfError, match=text):
            run(rename(three.services, RenameArgs("run2", new)))
    run(world_create(three, "run1"))


async def world_create(world: World, name: str) -> None:
    await world.create({"Image": "busybox"}, name)


def updated(world: World, ref: str, body: dict[str, Any]) -> None:
    run(update(world.services, UpdateArgs(ref, jsonshape.convert(body, UpdateRequest))))


def test_update(three: World) -> None:
    updated(three, "run1", {"CpuShares": 512, "NanoCpus": 500_000_000, "RestartPolicy": {"Name": "always"}})
    host = three.services.registry.get("run1").definition.host_config
    assert (host.cpu_shares, host.nano_cpus) == (512, 500_000_000)
    assert host.restart_policy is not None and host.restart_policy.name == "always"
    assert msgspec.json.decode(three.shims.updates[0])["cpu"] == {
        "shares": 512, "quota": 50_000, "period": 100_000,
    }  # fmt: skip
    updated(three, "created1", {"PidsLimit": 5})
    assert len(three.shims.updates) == 1


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"Memory": 1000}, "Minimum memory limit allowed is 6MB"),
        ({"Memory": 1 << 30}, "Cannot update container .*: Memory limit should be smaller than already set"),
        ({"CpuPeriod": 100_000}, "CPU Period cannot be updated as NanoCPUs has already been set"),
        ({"RestartPolicy": {"Name": "x"}}, "invalid restart policy: unknown policy 'x'"),
        ({"Devices": [{"PathOnHost": "/dev/null"}]}, "devices cannot be changed"),
    ],
    ids=str,
)
def test_refused_updates(three: World, body: dict[str, Any], text: str) -> None:
    updated(three, "run1", {"NanoCpus": 500_000_000})
    with pytest.raises(WharfError, match=text):
        updated(three, "run1", body)
