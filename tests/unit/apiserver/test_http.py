"""The HTTP surface: versions, routes, errors, broken requests."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator

import pytest

from services.apiserver.query import timestamp
from services.protocol.api.images import ImagePruneReply
from services.protocol.errors import Conflict, NotFound, NotModified, Unavailable
from services.protocol.verbs import Nothing
from services.protocol.verbs import containers as verbs
from services.protocol.verbs import images as image_verbs
from services.protocol.verbs import networks as network_verbs
from tests.unit.apiserver.conftest import Server
from tests.unit.apiserver.fakes import Client, FakeEngine, read_all


def message(client: Client, method: str, path: str, body: object = None) -> tuple[int, str]:
    status, document, _ = client.request(method, path, body)
    return status, document["message"]


def test_ping_is_answered_without_an_engine_and_spelled_like_go(client: Client) -> None:
    answer = client.raw(b"GET /_ping HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n").decode()
    head, _, body = answer.partition("\r\n\r\n")
    lines = head.split("\r\n")
    assert lines[0] == "HTTP/1.1 200 OK"
    assert body == "OK"
    for line in ("Ostype: linux", "Docker-Experimental: false", "Builder-Version: 2", "Swarm: inactive"):
        assert line in lines
    assert "Content-Length: 2" in lines and "Pragma: no-cache" in lines
    assert client.request("HEAD", "/v1.24/_ping")[2].getheader("content-length") == "0"


def test_tcp_answers_like_the_unix_socket(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as sock:
        sock.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
        assert read_all(sock).endswith(b"OK")


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/v9.99/info", 400, "client version 9.99 is too new. Maximum supported API version is 1.56"),
        ("/v9.99/nosuch", 404, "page not found"),
        ("/v1.50/containers/json/", 404, "page not found"),
        ("/v1.50/", 404, "page not found"),
        ("/containers/create", 404, "page not found"),
    ],
)
def test_paths_that_are_refused(client: Client, path: str, status: int, text: str) -> None:
    assert message(client, "GET", path) == (status, text)


def test_requests_that_old_versions_do_not_have(client: Client, engine: FakeEngine) -> None:
    engine.on(image_verbs.PRUNE, ImagePruneReply(images_deleted=None, space_reclaimed=0))
    engine.start()
    refusal = (400, "POST /images/prune requires minimum API version 1.25")
    assert message(client, "POST", "/v1.24/images/prune") == refusal
    assert client.request("POST", "/v1.25/images/prune")[0] == 200


def test_old_clients_get_plain_text(client: Client) -> None:
    status, text, response = client.request("GET", "/v1.23/info")
    assert status == 400
    assert text.startswith(b"client version 1.23 is too old. Minimum supported API version is 1.24, please")
    assert response.getheader("content-type") == "text/plain; charset=utf-8"


def test_unclean_paths_are_redirected(client: Client) -> None:
    status, body, response = client.request("POST", "/v1.50/containers//start?t=1")
    assert (status, body) == (301, b"")
    assert response.getheader("location") == "/v1.50/containers/start?t=1"


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [("", 0), ("1.5", 1_500_000_000), ("-1", -1_000_000_000), ("32472144000", (1 << 63) - 1)],
)
def test_timestamps(text: str, nanoseconds: int) -> None:
    assert timestamp("since", text) == nanoseconds


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "HEAD"])
def test_other_methods_of_a_route_are_unknown(client: Client, method: str) -> None:
    status, body, _ = client.request(method, "/v1.50/containers/json" if method != "DELETE" else "/info")
    assert status == 404
    assert method == "HEAD" or body["message"] == "page not found"


def test_names_may_hold_slashes_and_spaces(client: Client, engine: FakeEngine) -> None:
    async def inspect(args: verbs.InspectArgs, _: object) -> None:
        raise NotFound(f"No such container: {args.ref}")

    engine.on(verbs.INSPECT, inspect)
    engine.start()
    for path, name in (("a%2Fb", "a/b"), ("%20", " "), ("a/b", "a/b")):
        assert message(client, "GET", f"/v1.50/containers/{path}/json") == (404, f"No such container: {name}")


@pytest.mark.parametrize(
    ("error", "status"), [(NotFound("x"), 404), (Conflict("x"), 409), (Unavailable("x"), 503)]
)
def test_kinds_become_statuses(client: Client, engine: FakeEngine, error: Exception, status: int) -> None:
    engine.on(verbs.START, error)
    engine.start()
    assert message(client, "POST", "/containers/c/start") == (status, "x")


def test_not_modified_has_no_body(client: Client, engine: FakeEngine) -> None:
    engine.on(verbs.START, NotModified("container already running"))
    engine.start()
    status, body, response = client.request("POST", "/containers/c/start")
    assert (status, body) == (304, b"")
    assert response.getheader("content-type") is None


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"{bad", "invalid JSON: invalid character 'b' looking for beginning of object key string"),
        (b"", "invalid JSON: got EOF while reading request body"),
        (b'{"Image":', "invalid JSON: unexpected EOF"),
        (b'{"Image":"x"} {}', "unexpected content after JSON"),
        (b"[]", "invalid JSON: json: cannot unmarshal array into Go value of type CreateRequest"),
        (
            b'{"Image":5}',
            "invalid JSON: json: cannot unmarshal number into Go struct field "
            "CreateRequest.Image of type string",
        ),
        (
            b'{"Image":"x","HostConfig":{"Memory":9223372036854775808}}',
            "invalid JSON: json: cannot unmarshal number 9223372036854775808 into Go value of type int64",
        ),
        (b"{}", "config cannot be empty in order to create a container"),
        (b"null", "config cannot be empty in order to create a container"),
        (
            b'{"Image":"b","HostConfig":{"PortBindings":{"x/tcp":[]}}}',
            "invalid JSON: invalid port 'x': invalid syntax",
        ),
        (b'{"Image":"b","HostConfig":{"Dns":["no"]}}', 'invalid JSON: ParseAddr("no"): unable to parse IP'),
    ],
)
def test_bad_bodies_are_refused_before_the_engine(
    client: Client, engine: FakeEngine, body: bytes, text: str
) -> None:
    engine.on(verbs.CREATE, {"Id": "x", "Warnings": []})
    engine.start()
    status, document, _ = client.request(
        "POST", "/v1.50/containers/create", body, {"Content-Type": "application/json"}
    )
    assert (status, document["message"]) == (400, text)
    assert engine.calls == []


def test_content_type_must_be_json(client: Client) -> None:
    status, document, _ = client.request(
        "POST", "/containers/create", b'{"Image":"x"}', {"Content-Type": "text/plain"}
    )
    assert status == 400
    assert document["message"] == "unsupported Content-Type header (text/plain): must be 'application/json'"


def test_names_of_members_match_without_case_and_null_is_absent(client: Client, engine: FakeEngine) -> None:
    engine.on(verbs.CREATE, {"Id": "x", "Warnings": []})
    engine.start()
    body = {"image": "busybox", "Cmd": None, "hostconfig": {"binds": None, "NETWORKMODE": "none"}}
    status, document, _ = client.request("POST", "/containers/create?name=ab", body)
    assert (status, document) == (201, {"Id": "x", "Warnings": []})
    args = engine.calls[0][1]
    assert args.name == "ab" and args.request.image == "busybox"
    assert args.request.host_config.network_mode == "none"


def test_ports_are_written_with_their_protocol(client: Client, engine: FakeEngine) -> None:
    engine.on(verbs.CREATE, {"Id": "x", "Warnings": []})
    engine.start()
    bindings = {"080": [{"HostPort": "1"}], "81/UDP": None}
    body = {"Image": "x", "ExposedPorts": {"82": {}}, "HostConfig": {"PortBindings": bindings}}
    assert client.request("POST", "/containers/create", body)[0] == 201
    request = engine.calls[0][1].request
    assert list(request.exposed_ports) == ["82/tcp"]
    assert list(request.host_config.port_bindings) == ["80/tcp", "81/udp"]


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"BlkioWeight": 65536}, "number 65536 into Go struct field {}.BlkioWeight of type uint16"),
        (
            {"BlkioWeightDevice": [{"Path": "/dev/x", "Weight": -1}]},
            "number -1 into Go struct field {}.BlkioWeightDevice.Weight of type uint16",
        ),
        (
            {"BlkioDeviceReadBps": [{"Path": "/dev/x", "Rate": -1}]},
            "number -1 into Go struct field {}.BlkioDeviceReadBps.Rate of type uint64",
        ),
    ],
)
def test_numbers_that_do_not_fit(
    client: Client, engine: FakeEngine, limits: dict[str, object], reason: str
) -> None:
    engine.start()
    for path, body, where in (
        ("/containers/create", {"Image": "x", "HostConfig": limits}, "CreateRequest.HostConfig"),
        ("/containers/x/update", limits, "UpdateConfig.Resources"),
    ):
        status, document, _ = client.request("POST", path, body)
        text = f"invalid JSON: json: cannot unmarshal {reason.format(where)}"
        assert (status, document["message"]) == (400, text)
    assert engine.calls == []


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_body_cut_off_changes_nothing(client: Client, engine: FakeEngine, framing: str) -> None:
    """What arrived is valid JSON by itself; it is not the whole body all the same."""
    engine.on(network_verbs.CREATE, {"Id": "x", "Warning": ""})
    engine.start()
    head = b"POST /networks/create HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\n"
    if framing == "length":
        data = head + b'Content-Length: 100\r\n\r\n{"Name":"n"}'
    else:
        data = head + b'Transfer-Encoding: chunked\r\n\r\nc\r\n{"Name":"n"}\r\n'
    answer = client.raw(data, half_close=True)
    assert answer.startswith(b"HTTP/1.1 400 Bad Request")
    assert answer.endswith(b'{"message":"invalid JSON: unexpected EOF"}\n')
    assert engine.calls == []


def test_a_body_that_breaks_its_framing(client: Client, engine: FakeEngine) -> None:
    engine.on(network_verbs.CREATE, {"Id": "x", "Warning": ""})
    engine.start()
    answer = client.raw(
        b"POST /networks/create HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\n"
        b'Transfer-Encoding: chunked\r\n\r\nc\r\n{"Name":"n"}\r\nnonsense\r\n\r\n'
    )
    assert answer.startswith(b"HTTP/1.1 400 Bad Request") and answer.endswith(b"\r\n\r\n400 Bad Request")
    assert engine.calls == []


def test_chunked_bodies(client: Client, engine: FakeEngine) -> None:
    engine.on(network_verbs.CREATE, {"Id": "x", "Warning": ""})
    engine.start()
    answer = client.raw(
        b"POST /networks/create HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\n"
        b'Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n6\r\n{"Name\r\n6\r\n":"n"}\r\n0\r\n\r\n'
    )
    assert answer.startswith(b"HTTP/1.1 201 Created")
    assert engine.calls[0][1].name == "n"


def test_a_half_closed_client_gets_its_answer(client: Client, engine: FakeEngine) -> None:
    engine.on(verbs.START, Nothing())
    engine.start()
    answer = client.raw(b"POST /containers/c/start HTTP/1.1\r\nHost: d\r\n\r\n", half_close=True)
    assert answer.startswith(b"HTTP/1.1 204 No Content")


@pytest.mark.parametrize(
    ("request_text", "line"),
    [
        (b"nonsense\r\n\r\n", b"400 Bad Request"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400 Bad Request: missing required Host header"),
        (b"POST / HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: gzip\r\n\r\n", b"501 Not Implemented"),
        (
            b"GET / HTTP/1.1\r\nHost: d\r\nX: " + b"x" * 1_100_000 + b"\r\n\r\n",
            b"431 Request Header Fields Too Large",
        ),
    ],
)
def test_broken_requests_are_answered_in_plain_text(client: Client, request_text: bytes, line: bytes) -> None:
    with client.connect() as sock:
        try:
            sock.sendall(request_text)
        except OSError:
            pass  # refused before all was sent
        answer = read_all(sock)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 " + line.partition(b":")[0])
    assert b"Connection: close" in head
    assert body == (b"Unsupported transfer encoding" if line.startswith(b"501") else line)


def test_swarm_is_not_there(client: Client) -> None:
    status, text = message(client, "GET", "/services")
    assert status == 503 and text.startswith("This node is not a swarm manager.")
    body = b'{"Name": "v1", "ClusterVolumeSpec": {}}'
    assert message(client, "POST", "/volumes/create", body) == (status, text)


def test_filters_are_checked(client: Client, engine: FakeEngine) -> None:
    engine.on(verbs.LIST, [])
    engine.start()
    assert message(client, "GET", "/containers/json?filters=x") == (400, "invalid filter")
    assert message(client, "GET", '/containers/json?filters=["a"]') == (400, "invalid filter")
    for text in ('{"name":{"h1":true}}', '{"name":["h1"]}'):
        assert client.request("GET", f"/containers/json?all=maybe&filters={text}")[0] == 200
        assert engine.calls[-1][1].filters == {"name": ["h1"]} and engine.calls[-1][1].all


def test_a_websocket_that_is_none(client: Client, engine: FakeEngine) -> None:
    async def inspect(args: verbs.InspectArgs, _: object) -> dict[str, object]:
        if args.ref == "gone":
            raise NotFound("No such container: gone")
        return {}

    engine.on(verbs.INSPECT, inspect)
    engine.start()
    assert client.request("GET", "/containers/c/attach/ws")[:2] == (400, b"not websocket protocol")
    assert message(client, "GET", "/containers/gone/attach/ws") == (404, "No such container: gone")


@pytest.mark.parametrize(
    ("content_type", "text"),
    [
        (";;", "malformed Content-Type header (;;): mime: no media type"),
        ("a/", "malformed Content-Type header (a/): mime: expected token after slash"),
        ("a/b c", "malformed Content-Type header (a/b c): mime: unexpected content after media subtype"),
        ("a/b; x", "malformed Content-Type header (a/b; x): mime: invalid media parameter"),
        ("a; x=y", "unsupported Content-Type header (a; x=y): must be 'application/json'"),
        ('Application/JSON; a="b;c"; d=e;', ""),
    ],
)
def test_content_types(client: Client, engine: FakeEngine, content_type: str, text: str) -> None:
    engine.on(verbs.UPDATE, {"Warnings": None})
    engine.start()
    status, document, _ = client.request("POST", "/containers/c/update", {}, {"Content-Type": content_type})
    assert (status, document.get("message", "")) == (400 if text else 200, text)


def test_views_add_what_old_versions_had(client: Client, engine: FakeEngine) -> None:
    networks = {"bridge": {"IPAddress": "172.17.0.2", "MacAddress": "02:42:ac:11:00:02"}}
    document = {
        "Id": "0123456789abcdef",
        "Config": {"MacAddress": "02:42:ac:11:00:02"},
        "HostConfig": {"NetworkMode": "bridge"},
        "NetworkSettings": {"Networks": networks},
    }
    engine.on(verbs.INSPECT, document)
    engine.start()
    assert "IPAddress" not in client.request("GET", "/v1.52/containers/c/json")[1]["NetworkSettings"]
    old = client.request("GET", "/v1.43/containers/c/json")[1]
    assert old["NetworkSettings"]["IPAddress"] == "172.17.0.2"
    assert old["Config"]["MacAddress"] == "02:42:ac:11:00:02"
    assert json.dumps(old)


def test_wrong_numbers(client: Client, engine: FakeEngine) -> None:
    engine.start()
    text = 'strconv.Atoi: parsing "x": invalid syntax'
    assert message(client, "GET", "/containers/json?limit=x") == (400, text)
    assert message(client, "POST", "/containers/c/stop?t=x") == (400, text)
    assert message(client, "POST", "/containers/c/restart?t=x") == (500, text)


def test_what_old_versions_had_not(client: Client, engine: FakeEngine) -> None:
    engine.on(verbs.UPDATE, {"Warnings": None})
    engine.on(verbs.START, Nothing())

    async def gone(args: verbs.WaitArgs, _: object) -> AsyncIterator[verbs.Waited]:
        raise NotFound(args.condition)
        yield

    engine.on_stream(verbs.WAIT, gone)
    engine.start()
    for version, asked, limit in (("1.39", 5, None), ("1.40", 5, 5), ("1.40", -1, 0), ("1.50", 0, 0)):
        client.request("POST", f"/v{version}/containers/c/update", {"PidsLimit": asked})
        assert engine.calls[-1][1].request.pids_limit == limit
    assert message(client, "POST", "/v1.30/containers/c/wait?condition=x")[0] == 400
    assert message(client, "POST", "/v1.29/containers/c/wait?condition=x") == (404, "not-running")
    assert client.request("POST", "/containers/c/start", {"a": 1})[0] == 400
    assert client.request("POST", "/containers/c/start", {})[0] == 204


@pytest.mark.parametrize("field", ["username", "password", "serveraddress", "identitytoken"])
def test_credentials_of_wrong_types(client: Client, engine: FakeEngine, field: str) -> None:
    engine.start()
    status, document, _ = client.request("POST", "/auth", {field: ["x"]})
    assert status == 400 and document["message"].startswith("invalid JSON: json: cannot unmarshal array")
    assert engine.calls == []
