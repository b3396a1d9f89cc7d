from __future__ import annotations

import pytest

from tests.support.proxy_rig import running_proxy
from tests.support.raw_http import answer, request


@pytest.mark.parametrize(
    "target",
    [
        b"/balances/v2/mikomo",
        b"/balances/v2/mikomo?",
        b"/balances/v2/mikomo?accountIds=a,b&mode=raw",
        b"/transactions/v3/mikomo/a%2Fb%2fc",
        b"/transactions/v2/mikomo/acct%201/?startTime=2026-01-01T00%3A00%3A00Z&x=%2F..%2f//&&=",
        b"/statements/v3/mikomo/a:b@c!$&'()*+,;=~/d",
        b"/tax-forms/v2/mikomo/%E2%82%AC?q=%zz",
    ],
)
async def test_path_and_query_go_on_octet_for_octet(target: bytes) -> None:
    """Nothing in a target is decoded, encoded, sorted or dropped."""
    async with running_proxy(answer()) as rig, rig.client() as client:
        got = await client.ask(request(line=b"GET " + target + b" HTTP/1.1"))

    assert got.status == 200
    assert rig.upstream.requests[0].head.start_line == b"GET " + target + b" HTTP/1.1"


@pytest.mark.parametrize(
    "target",
    [
        b"/balances/v2/mikomo/../x",
        b"/balances/v2/mikomo/%2e%2e/x",
        b"/balances/v2/mikomo/a%2f..",
        b"/balances/v2%2fmikomo/a",
        b"/balances/v2/mikomo/a\\b",
        b"/balances/v2/mikomo//a",
        b"/balances/v2/mikomo#x",
        b"/balances/v2/mik\xc3\xb6mo",
        b"/balances/v2/mikomo?\xff",
        b"/balances/v2/mik\x01omo",
        b"//evil.example/v2/mikomo",
        b"http://evil.example/balances/v2/mikomo",
        b"evil.example:443",
        b"*",
        b"balances/v2/mikomo",
    ],
)
async def test_a_target_with_two_readings_goes_nowhere(target: bytes) -> None:
    """Nothing in a request line can change the upstream's host or the shape of its path."""
    async with running_proxy(answer()) as rig, rig.client() as client:
        got = await client.ask(request(line=b"GET " + target + b" HTTP/1.1"))

    assert (got.status, got.value(b"sidecar-error")) == (400, b"path_invalid")
    assert rig.upstream.requests == []
    assert rig.source.keys == []


@pytest.mark.parametrize("line", [b"OPTIONS * HTTP/1.1", b"CONNECT evil.example:443 HTTP/1.1"])
async def test_asterisk_and_authority_forms_are_no_methods_of_ours(line: bytes) -> None:
    """`OPTIONS *` and `CONNECT` are refused like any method that is not configured."""
    async with running_proxy(answer()) as rig, rig.client() as client:
        got = await client.ask(request(line=line))

    assert (got.status, got.value(b"sidecar-error")) == (405, b"method_not_allowed")
    assert rig.upstream.connections == 0


async def test_the_host_of_a_request_is_the_clients_own_affair() -> None:
    """Whatever `Host` says, the request goes to the configured upstream under its own name."""
    async with running_proxy(answer()) as rig, rig.client() as client:
        await client.ask(
            b"GET /balances/v2/mikomo HTTP/1.1\r\nHost: evil.example\r\nSidecar-User: u\r\n\r\n"
        )

    assert rig.upstream.requests[0].head.values(b"host") == [b"127.0.0.1:%d" % rig.upstream.port]
