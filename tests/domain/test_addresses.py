from __future__ import annotations

import pytest

from sidecar.domain.addresses import TcpAddress, UnixAddress, parse_address


@pytest.mark.parametrize(
    "text", ["127.0.0.1:8080", "0.0.0.0:0", "[::1]:9464", "localhost:1", "unix:/run/a b.sock"]
)
def test_an_address_reads_back_as_it_was_written(text: str) -> None:
    """What a log or the reference shows can be pasted into the configuration."""
    assert str(parse_address(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "8080",
        ":8080",
        "host:",
        "host:-1",
        "host:65536",
        "host:٣",
        "::1:80",
        "h ost:1",
        "unix:",
        "unix:run/x",
        "unix:/run/",
        "unix:/" + "x" * 107,
        "host:" + "9" * 5000,
    ],
)
def test_what_names_no_address_is_none(text: str) -> None:
    """A malformed address is found when it is read, not when it is bound."""
    assert parse_address(text) is None


def test_loopback_is_known_by_meaning_and_not_by_spelling() -> None:
    """A Unix socket and every loopback address are private; a wildcard and a name are not."""
    assert UnixAddress(path="/x").is_loopback
    assert TcpAddress(host="127.9.9.9", port=1).is_loopback
    assert TcpAddress(host="LOCALHOST", port=1).is_loopback
    assert not TcpAddress(host="0.0.0.0", port=1).is_loopback  # noqa: S104
    assert not TcpAddress(host="::", port=1).is_loopback
    assert not TcpAddress(host="localhost.example", port=1).is_loopback
