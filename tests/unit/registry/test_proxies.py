"""Which requests take a proxy: the rules of Go's ``httpproxy``."""

from __future__ import annotations

import pytest

from reexec.distribution.proxies import Proxies, account, environment, masked
from services.protocol.errors import InvalidParameter

HTTP, HTTPS = "http://one:3128", "https://two:3129"


@pytest.mark.parametrize(
    ("url", "skipped", "expected"),
    [
        ("http://example.org/x", "", HTTP),
        ("https://example.org/x", "", HTTPS),
        ("http://localhost:5000/", "", ""),
        ("http://127.1.2.3/", "", ""),
        ("http://[::1]:5000/", "", ""),
        ("http://example.org/", "*", ""),
        ("http://example.org/", "example.org", ""),
        ("http://a.example.org/", "example.org", ""),
        ("http://example.org/", ".example.org", HTTP),
        ("http://a.example.org/", " other , .EXAMPLE.org ", ""),
        ("http://a.example.org/", "*.example.org", ""),
        ("http://notexample.org/", "example.org", HTTP),
        ("http://example.org:81/", "example.org:80", HTTP),
        ("http://example.org/", "example.org:80", ""),
        ("https://example.org/", "example.org:443", ""),
        ("http://10.1.2.3/", "10.0.0.0/8", ""),
        ("http://11.1.2.3/", "10.0.0.0/8", HTTP),
        ("http://10.1.2.3:5000/", "10.1.2.3", ""),
        ("http://10.1.2.3:5000/", "10.1.2.3:5001", HTTP),
        ("http://[fd00::1]:5000/", "[fd00::1]:5000", ""),
        ("http://[fd00::1]:5000/", "fd00::/8", ""),
        ("http://example.org/", ":80,,no/network", HTTP),
    ],
)
def test_rules(url: str, skipped: str, expected: str) -> None:
    assert Proxies(HTTP, HTTPS, skipped).of(url) == expected


def test_addresses() -> None:
    assert Proxies("one:3128").of("http://x/") == "http://one:3128"
    assert Proxies("one:3128").of("https://x/") == ""
    with pytest.raises(InvalidParameter, match="^invalid proxy address: ftp://xxxxx:xxxxx@one$"):
        Proxies("ftp://me:hidden@one").of("http://x/")


def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    assert environment() == Proxies()
    monkeypatch.setenv("http_proxy", "low")
    monkeypatch.setenv("no_proxy", "here")
    assert environment() == Proxies("low", "", "here")
    monkeypatch.setenv("HTTP_PROXY", "high")
    assert environment() == Proxies("high", "", "here")


def test_passwords_are_not_shown() -> None:
    assert masked("http://me:p%40ss@proxy:3128/x") == "http://xxxxx:xxxxx@proxy:3128/x"
    assert masked("http://me@proxy") == "http://xxxxx:xxxxx@proxy"
    assert masked("http://proxy:3128") == "http://proxy:3128"
    assert masked("proxy") == "proxy"
    assert account("http://me:p%40ss@proxy") == ("me", "p@ss")
    assert account("http://proxy") is None
