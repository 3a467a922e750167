"""Whether kernel, database and files agree with what the API says of networks, ports and names."""

from __future__ import annotations

import json
import re
import shutil
import socket
import sqlite3
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker

from services.engine.networks import namespace
from services.engine.networks.links import Links
from tests.harness.engine import Engine
from tests.harness.readiness import wait_until

#: An object of the API.
Told = dict[str, Any]


def check(engine: Engine) -> None:
    """Raises ``AssertionError`` that says what differs, if it goes on differing."""
    try:
        # What nobody waits for, a link's removal or a row's, may still be under way.
        wait_until(lambda: not _at_once(engine), "all agree on the networks", poll=0.1)
    except TimeoutError:
        raise AssertionError("\n".join(differences(engine))) from None


def _at_once(engine: Engine) -> list[str]:
    """:func:`differences`, of which one is that something has gone between two looks."""
    try:
        return differences(engine)
    except (docker.errors.NotFound, OSError) as error:
        return [str(error)]


def differences(engine: Engine) -> list[str]:
    api = engine.client.api
    found: list[str] = []

    def same(what: str, seen: object, told: object) -> None:
        if seen != told:
            found.append(f"{what}: {seen!r}, and by the API {told!r}")

    networks = [api.inspect_network(item["Id"]) for item in api.networks()]
    containers = [api.inspect_container(item["Id"]) for item in api.containers(all=True)]
    running = [one for one in containers if one["State"]["Running"]]
    own = [one for one in running if not one["HostConfig"]["NetworkMode"].startswith("container:")]

    rows, sandboxes = _rows(engine)
    same("networks in the database", rows, {one["Name"] for one in networks})
    same("sandboxes", set(sandboxes), {one["Id"] for one in own})
    for one in own:
        _check_container(engine, one, networks, sandboxes.get(one["Id"], {}), same)
    for network in networks:
        members = {
            one["Id"]: settings["IPAddress"]
            for one in own
            for settings in one["NetworkSettings"]["Networks"].values()
            if settings["NetworkID"] == network["Id"]
        }
        shown = {key: one["IPv4Address"].partition("/")[0] for key, one in network["Containers"].items()}
        same(f"members of {network['Name']}", shown, members)

    bridges = {_interface(engine, one) for one in networks if one["Driver"] == "bridge"}
    links = {link["ifname"]: link for link in _ip("-d", "link")}
    same("bridges", bridges & links.keys(), bridges)
    veths = {name for name, link in links.items() if link.get("master") in bridges}
    ends = {end["host_interface"] for one in sandboxes.values() for end in one["endpoints"]}
    same("links", veths, ends - {""})
    _check_rules(engine, own, bridges, same)
    return found


def _rows(engine: Engine) -> tuple[set[str], dict[str, Any]]:
    with sqlite3.connect(f"file:{engine.data_root}/engine.db?mode=ro", uri=True) as database:
        names = {name for (name,) in database.execute("SELECT name FROM networks")}
        documents = database.execute("SELECT container_id, document FROM sandboxes")
        return names, {key: json.loads(document) for key, document in documents}


def _ip(*arguments: str) -> list[dict[str, Any]]:
    out = subprocess.run(["ip", "-json", *arguments], check=True, capture_output=True, text=True).stdout
    return [one for one in json.loads(out or "[]") if one]


def _interface(engine: Engine, network: Told) -> str:
    if network["Name"] == "bridge":
        return engine.bridge
    name = (network["Options"] or {}).get("com.docker.network.bridge.name")
    return name or f"br-{network['Id'][:12]}"


def _check_container(engine: Engine, one: Told, networks: list[Told], sandbox: Told, same: Any) -> None:
    name, pid = one["Name"], one["State"]["Pid"]
    ends = one["NetworkSettings"]["Networks"]
    same(f"{name}: endpoints", {end["id"] for end in sandbox.get("endpoints", [])},
         {end["EndpointID"] for end in ends.values()})  # fmt: skip
    addresses = {end["IPAddress"] for end in ends.values()} - {""}
    if not addresses:
        return
    inside = namespace.inside(pid, _addresses)
    same(f"{name}: addresses inside", inside - {"127.0.0.1"}, addresses)
    by_id = {network["Id"]: network for network in networks}
    ways = sorted(
        (-(end.get("GwPriority") or 0), key, end["Gateway"])
        for key, end in ends.items()
        if not by_id[end["NetworkID"]]["Internal"]
    )
    same(f"{name}: default route", namespace.inside(pid, _default_route), ways[0][2] if ways else "")
    same(f"{name}: hosts", _hosts(engine, one), addresses)
    for key, end in ends.items():
        for alias in (end.get("Aliases") or []) if key != "bridge" else []:
            same(f"{name}: {alias} by DNS", namespace.inside(pid, lambda alias=alias: ask(alias)),  # type: ignore[misc]
                 end["IPAddress"])  # fmt: skip


def _addresses() -> set[str]:
    links = Links()
    try:
        return {str(address.ip) for _, address in links.addresses() if address.version == 4}
    finally:
        links.close()


def _default_route() -> str:
    for line in Path("/proc/thread-self/net/route").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1] == "00000000":
            return socket.inet_ntoa(struct.pack("=I", int(fields[2], 16)))
    return ""


def _hosts(engine: Engine, one: Told) -> set[str]:
    text = Path(engine.data_root, "containers", one["Id"], "hosts").read_text()
    lines = [line.split() for line in text.splitlines() if line]
    return {words[0] for words in lines if words[1:] == [one["Config"]["Hostname"]]}


def ask(name: str) -> str:
    """An address of *name* by the embedded server, "" if there is none: in the thread's namespace."""
    question = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"
    query = struct.pack(">6H", 7, 0x100, 1, 0, 0, 0) + question + struct.pack(">2H", 1, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        try:
            sock.sendto(query, ("127.0.0.11", 53))
            reply = sock.recv(512)
        except OSError as error:
            return str(error)
    answers = struct.unpack_from(">H", reply, 6)[0]
    return socket.inet_ntoa(reply[-4:]) if answers else ""


def _check_rules(engine: Engine, own: list[Told], bridges: set[str], same: Any) -> None:
    if shutil.which("nft") is None:
        return
    table = ["nft", "list", "table", "ip", f"wharfd-{engine.bridge}"]
    text = subprocess.run(table, capture_output=True, text=True, check=True).stdout
    same("bridges in the rules", set(re.findall(r'"([^"]+)"', _elements(text, "set bridges"))), bridges)
    chains = set(re.findall(r"chain from-(\S+) ", text))
    same("chains", chains, bridges)
    rules = set(_pairs(_elements(text, "map ports"))) | set(_pairs(_elements(text, "map wildcard_ports")))
    told = set()
    for one in own:
        ends = one["NetworkSettings"]["Networks"].values()
        addresses = {end["IPAddress"] for end in ends}
        for port, bindings in (one["NetworkSettings"]["Ports"] or {}).items():
            number, _, protocol = port.partition("/")
            for binding in bindings or []:
                if ":" in binding["HostIp"]:
                    continue
                led = [rule for rule in rules if rule[:2] == (protocol, binding["HostPort"])]
                same(f"{one['Name']}: {port} leads to one of {addresses}",
                     [rule[2] in addresses and rule[3] == number for rule in led], [True])  # fmt: skip
                told.add((protocol, binding["HostPort"]))
    same("ports in the rules", {rule[:2] for rule in rules}, told)


def _elements(text: str, head: str) -> str:
    """What is between the braces of a set's or map's elements."""
    body = text.partition(f"{head} {{")[2].partition("\n\t}")[0]
    return body.partition("elements = {")[2].partition("}")[0]


def _pairs(elements: str) -> Iterator[tuple[str, str, str, str]]:
    """(protocol, host port, address, port) of each."""
    for item in elements.split(","):
        if item.strip():
            key, _, value = item.strip().partition(" : ")
            *_, protocol, port = key.split(" . ")
            address, _, number = value.partition(" . ")
            yield protocol, port, address, number.strip()
