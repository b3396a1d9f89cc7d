"""What a store's URL may say."""

from __future__ import annotations

import pytest

from sidecar.domain.addresses import TcpAddress
from sidecar.domain.store_address import (
    ClusterNodes,
    Login,
    OneServer,
    SentinelService,
    parse_store_address,
)


@pytest.mark.parametrize(
    "url", ["redis://h", "redis://h:1/2", "rediss://u:p@[::1]:1/0", "unix:///run/redis.sock?db=1"]
)
def test_one_server_is_left_to_the_client_library(url: str) -> None:
    """What names one server is kept as it is."""
    assert parse_store_address(url) == OneServer(url=url)


def test_a_sentinel_service_has_sentinels_a_name_and_a_database() -> None:
    """Every part of the longest form arrives, decoded."""
    address = parse_store_address(
        "rediss+sentinel://me:p%40ss@a:1,b,[::1]:3/my%2Fservice/4?sentinel_username=s&sentinel_password=q%20"
    )

    assert address == SentinelService(
        sentinels=(
            TcpAddress(host="a", port=1),
            TcpAddress(host="b", port=26379),
            TcpAddress(host="::1", port=3),
        ),
        service="my/service",
        database=4,
        is_tls=True,
        login=Login(username="me", password="p@ss"),
        sentinel_login=Login(username="s", password="q "),
    )


def test_a_service_is_the_least_that_a_sentinel_must_be_told() -> None:
    """Without a user, a database and a port there are defaults."""
    assert parse_store_address("redis+sentinel://a/main") == SentinelService(
        sentinels=(TcpAddress(host="a", port=26379),), service="main"
    )


def test_a_cluster_has_nodes_and_no_database() -> None:
    """Some of its nodes are enough, with or without a slash at the end."""
    address = parse_store_address("redis+cluster://:secret@a:1,b/")

    assert address == ClusterNodes(
        nodes=(TcpAddress(host="a", port=1), TcpAddress(host="b", port=6379)),
        login=Login(password="secret"),
    )


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://CANARY", "must begin with"),
        ("redis://", "host:port/number"),
        ("redis://CANARY/name", "host:port/number"),
        ("redis://CANARY:port/0", "host:port/number"),
        ("redis://[CANARY", "must be a URL"),
        ("redis://CANARY#0", "without spaces and fragment"),
        ("redis://CANARY /0", "without spaces and fragment"),
        ("unix://CANARY", "path of a socket"),
        ("redis+sentinel://CANARY", "/service/number"),
        ("redis+sentinel://CANARY:0/s", "/service/number"),
        ("redis+sentinel://CANARY,,b/s", "/service/number"),
        ("redis+sentinel:///CANARY", "/service/number"),
        ("redis+sentinel://CANARY/s/x", "/service/number"),
        ("redis+sentinel://CANARY/s?password=x", "sentinel_username, sentinel_password"),
        ("redis+cluster://CANARY/0", "without a database"),
        ("redis+cluster://CANARY?ssl_cert_reqs=none", "allowed: none"),
        ("rediss://CANARY?ssl_ca_certs=/CANARY", "with SIDECAR_CA_FILE"),
    ],
)
def test_what_names_no_store_is_refused_and_never_repeated(url: str, message: str) -> None:
    """Whoever made a mistake learns what is wanted; what they wrote may be a secret."""
    with pytest.raises(ValueError, match=message) as caught:
        parse_store_address(url)

    assert "CANARY" not in str(caught.value)


def test_an_address_shows_no_password() -> None:
    """Neither form has a secret in its `repr`."""
    for url in ("redis://:CANARY@h", "redis+sentinel://:CANARY@h/s", "redis+cluster://:CANARY@h"):
        assert "CANARY" not in repr(parse_store_address(url))
