from __future__ import annotations

from tests.support.proxy_rig import running_proxy
from tests.support.raw_http import answer, request

HOP_BY_HOP = {
    b"connection",
    b"keep-alive",
    b"proxy-authenticate",
    b"proxy-authorization",
    b"proxy-connection",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
}


async def test_headers_of_one_hop_do_not_reach_the_upstream() -> None:
    """Every hop-by-hop header of RFC 9110 and every one named in `Connection` ends here."""
    async with running_proxy(answer()) as rig, rig.client() as client:
        await client.ask(
            request(
                b"Connection: keep-alive, X-Hop",
                b"Keep-Alive: timeout=5",
                b"Proxy-Authorization: Basic dTpw",
                b"Proxy-Connection: keep-alive",
                b"TE: trailers",
                b"Upgrade: h2c",
                b"HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA",
                b"x-hop: 1",
                b"X-End: 2",
            )
        )

    names = [name.lower() for name in rig.upstream.requests[0].head.names()]
    assert names == [b"host", b"x-end", b"authorization"]


async def test_headers_of_one_hop_do_not_reach_the_client() -> None:
    """The upstream's hop-by-hop headers end here too, those named in `Connection` included."""
    reply = answer(
        b"{}",
        b"Connection: keep-alive, X-Hop",
        b"Keep-Alive: timeout=5",
        b"Proxy-Authenticate: Basic",
        b"Trailer: X-T",
        b"Upgrade: h2c",
        b"X-Hop: 1",
        b"X-End: 2",
    )
    async with running_proxy(reply) as rig, rig.client() as client:
        got = await client.ask(request())

    assert got.head.headers == ((b"X-End", b"2"), (b"Content-Length", b"2"))


async def test_an_upgrade_is_not_made_and_the_connection_goes_on() -> None:
    """A wish to upgrade is answered like any request, and the next request is answered too."""
    async with running_proxy(answer()) as rig, rig.client() as client:
        upgrade = request(b"Connection: Upgrade", b"Upgrade: websocket")
        first = await client.ask(upgrade)
        second = await client.ask(request())

    assert (first.status, second.status) == (200, 200)
    assert not rig.upstream.requests[0].head.values(b"upgrade")


async def test_trailers_of_an_answer_are_dropped() -> None:
    """Trailers of a chunked answer are no part of it, nor of the next one."""
    chunked = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n"
        b"3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n"
    )
    async with running_proxy(chunked) as rig, rig.client() as client:
        first = await client.ask(request())
        second = await client.ask(request())

    assert (first.body, second.body) == (b"abc", b"abc")
    assert first.head == second.head
    assert first.head.names() == [b"Transfer-Encoding"]


async def test_trailers_of_a_request_become_headers_of_none() -> None:
    """A trailer cannot name the user of the request that follows it on the connection."""
    chunked = request(
        b"Transfer-Encoding: chunked",
        line=b"POST /balances/v2/mikomo HTTP/1.1",
        body=b"2\r\nhi\r\n0\r\nSidecar-User: u-2\r\n\r\n",
    )
    async with running_proxy(answer()) as rig, rig.client() as client:
        got = await client.ask(chunked + request(user=None))
        is_closed = await client.is_closed_by_peer()

    assert (got.value(b"connection"), is_closed) == (b"close", True)
    assert [asked.body for asked in rig.upstream.requests] == [b"hi"]
    assert [key.user for key in rig.source.keys] == ["u-1"]
