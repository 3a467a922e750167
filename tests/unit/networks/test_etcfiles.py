"""The container's files, line by line."""

from __future__ import annotations

from services.engine.networks.etcfiles import (
    ResolvConf,
    embedded_resolv_conf,
    host_line,
    hosts,
    plain_resolv_conf,
    split_extra_hosts,
)


def lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def test_host_line_puts_the_full_name_first() -> None:
    assert host_line("10.0.0.9", "box") == "10.0.0.9\tbox\n"
    assert host_line("10.0.0.9", "box", "example.org") == "10.0.0.9\tbox.example.org box\n"
    assert host_line("10.0.0.9", "box.example.org") == "10.0.0.9\tbox.example.org box\n"


def test_hosts_keeps_every_extra_entry_before_its_own() -> None:
    extra = split_extra_hosts(
        ["one:1.1.1.1", "six:2001:db8::1", "one:1.0.0.1", "gw:host-gateway"], ["172.17.0.1"]
    )
    assert hosts(extra, host_line("10.0.0.9", "box")).splitlines()[6:] == [
        "1.1.1.1\tone",
        "2001:db8::1\tsix",
        "1.0.0.1\tone",
        "172.17.0.1\tgw",
        "10.0.0.9\tbox",
    ]


def test_plain_leaves_out_servers_a_container_cannot_reach() -> None:
    host = "nameserver 127.0.0.53\nnameserver 10.0.0.1\nsearch a.test\noptions edns0\n"
    assert lines(plain_resolv_conf(host, [], [], [])) == [
        "nameserver 10.0.0.1",
        "search a.test",
        "options edns0",
    ]
    assert "nameserver 127.0.0.53" in plain_resolv_conf(host, [], [], [], filtered=False)


def test_plain_falls_back_when_only_loopback_servers_are_left() -> None:
    text = plain_resolv_conf("nameserver 127.0.0.53\n", [], [], [])
    assert lines(text) == ["nameserver 8.8.8.8", "nameserver 8.8.4.4"]
    assert "# Used default nameservers." in text


def test_given_settings_replace_the_hosts() -> None:
    host = "nameserver 10.0.0.1\nsearch old.test\noptions edns0\n"
    text = plain_resolv_conf(host, ["::1"], ["a.test", "b.test"], ["ndots:3", "timeout:1"])
    assert lines(text) == ["nameserver ::1", "search a.test b.test", "options ndots:3 timeout:1"]
    assert "# Overrides: [nameservers search options]" in text
    assert lines(plain_resolv_conf(host, ["9.9.9.9"], ["."], []))[1:] == ["options edns0"]


def test_embedded_server_forwards_to_the_others() -> None:
    text, upstream = embedded_resolv_conf("nameserver 10.0.0.1\n", [], ["a.test"], [])
    assert lines(text) == ["nameserver 127.0.0.11", "search a.test", "options ndots:0"]
    assert upstream == ["10.0.0.1"]
    text, upstream = embedded_resolv_conf("nameserver 10.0.0.1\n", ["9.9.9.9"], [], ["ndots:3"])
    assert lines(text) == ["nameserver 127.0.0.11", "options ndots:3"]
    assert upstream == ["9.9.9.9"]


def test_last_search_line_counts_and_comments_do_not() -> None:
    parsed = ResolvConf("domain one.test\nsearch two.test three.test ; what\n# nameserver 1.1.1.1\n")
    assert (parsed.search, parsed.servers) == (["two.test", "three.test"], [])
