from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trustme

from sidecar.adapters.trust import client_context
from sidecar.domain.secret import Secret
from sidecar.domain.upstream_failures import UpstreamCause
from sidecar.http.upstream import (
    Question,
    Upstream,
    UpstreamAnswer,
    UpstreamFailed,
    UpstreamOptions,
)
from tests.support.raw_http import RawUpstream, answer, read_head
from tests.support.wait import until

HOST = "products.example"
QUESTION = Question(
    method="GET",
    target="/balances/v2/mikomo",
    headers=[(b"X-A", b"1")],
    bearer=Secret("token-1"),
    body=None,
)


@dataclass(slots=True, kw_only=True)
class EgressProxy:
    """An HTTP proxy that makes tunnels to one port, whatever host is asked for."""

    to_port: int
    port: int = 0
    answer: bytes = b"HTTP/1.1 200 Connected\r\n\r\n"
    asked: list[bytes] = field(default_factory=list[bytes])

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await read_head(reader)
        self.asked.append(head.start_line)
        there, back = await asyncio.open_connection("127.0.0.1", self.to_port)
        writer.write(self.answer)
        async with asyncio.TaskGroup() as both_ways:
            both_ways.create_task(carry(reader, back))
            both_ways.create_task(carry(there, writer))


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
    except ConnectionError:
        return
    finally:
        writer.close()


@asynccontextmanager
async def tls_upstream(authority: trustme.CA) -> AsyncGenerator[RawUpstream]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(HOST, "127.0.0.1").configure_cert(  # pyright: ignore[reportUnknownMemberType]
        context  # (its signature names OpenSSL's own type as well)
    )
    upstream = RawUpstream(script=[answer(b"sealed")])
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0, ssl=context)
    upstream.port = server.sockets[0].getsockname()[1]
    try:
        yield upstream
    finally:
        server.close()


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)  # pyright: ignore[reportUnknownMemberType]
    return context


@asynccontextmanager
async def asking(options: UpstreamOptions) -> AsyncGenerator[Upstream]:
    upstream = Upstream(options=options)
    try:
        yield upstream
    finally:
        await upstream.close()


async def test_an_upstream_of_the_configured_authority_is_asked_over_tls() -> None:
    """The authorities of the configuration are the ones that are trusted."""
    authority = trustme.CA()
    async with tls_upstream(authority) as there:
        options = UpstreamOptions(url=f"https://127.0.0.1:{there.port}", tls=trusting(authority))
        async with asking(options) as upstream:
            got = await upstream.ask(QUESTION)
            assert isinstance(got, UpstreamAnswer)
            body = await got.body.read()
            got.close()

    assert body == b"sealed"


async def test_an_upstream_of_another_authority_gets_nothing() -> None:
    """No request, and so no bearer, is sent to a host that cannot prove who it is."""
    async with tls_upstream(trustme.CA()) as there:
        options = UpstreamOptions(url=f"https://127.0.0.1:{there.port}", tls=trusting(trustme.CA()))
        async with asking(options) as upstream:
            got = await upstream.ask(QUESTION)

    assert got == UpstreamFailed(cause=UpstreamCause.TLS_UNTRUSTED)
    assert there.requests == []


async def test_a_named_authority_stands_instead_of_the_systems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upstream that only the system's authorities vouch for gets no bearer."""
    of_the_system, named = trustme.CA(), tmp_path / "named.pem"
    of_the_system.cert_pem.write_to_path(str(tmp_path / "system.pem"))
    trustme.CA().cert_pem.write_to_path(str(named))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "system.pem"))
    async with tls_upstream(of_the_system) as there:
        url = f"https://127.0.0.1:{there.port}"
        got: list[UpstreamAnswer | UpstreamFailed] = []
        for tls in (client_context(None), client_context(str(named))):
            async with asking(UpstreamOptions(url=url, tls=tls)) as upstream:
                got.append(await upstream.ask(QUESTION))
                if isinstance(got[-1], UpstreamAnswer):
                    got[-1].close()

    assert isinstance(got[0], UpstreamAnswer)
    assert got[1] == UpstreamFailed(cause=UpstreamCause.TLS_UNTRUSTED)


async def test_an_egress_proxy_sees_a_tunnel_and_nothing_in_it() -> None:
    """Behind an egress proxy TLS still ends at the upstream, under the upstream's own name."""
    authority = trustme.CA()
    async with tls_upstream(authority) as there:
        egress = EgressProxy(to_port=there.port)
        server = await asyncio.start_server(egress.serve, "127.0.0.1", 0)
        egress.port = server.sockets[0].getsockname()[1]
        options = UpstreamOptions(
            url=f"https://{HOST}",
            tls=trusting(authority),
            egress_proxy=f"http://127.0.0.1:{egress.port}",
        )
        bodies: list[bytes] = []
        async with asking(options) as upstream:
            for _ in range(2):
                got = await upstream.ask(QUESTION)
                assert isinstance(got, UpstreamAnswer)
                bodies.append(await got.body.read())
                got.close()
        server.close()

    assert egress.asked == [f"CONNECT {HOST}:443 HTTP/1.1".encode()]
    assert bodies == [b"sealed", b"sealed"]
    assert there.requests[0].head.headers == (
        (b"Host", HOST.encode()),
        (b"X-A", b"1"),
        (b"Authorization", b"Bearer token-1"),
    )


async def test_other_authorities_let_idle_connections_go_and_running_exchanges_end() -> None:
    """What was connected under former authorities serves no request that comes after them."""
    authority = trustme.CA()
    async with tls_upstream(authority) as there:
        options = UpstreamOptions(url=f"https://127.0.0.1:{there.port}", tls=trusting(authority))
        async with asking(options) as upstream:
            running, idle = [await upstream.ask(QUESTION) for _ in range(2)]
            assert isinstance(running, UpstreamAnswer)
            assert isinstance(idle, UpstreamAnswer)
            await idle.body.read()
            idle.close()

            upstream.renew(tls=trusting(trustme.CA()), egress_proxy=None)
            await until(lambda: there.closed_connections == 1, within_s=20, what="the idle one")
            refused = await upstream.ask(QUESTION)
            body = await running.body.read()
            running.close()
            await until(lambda: there.closed_connections == 2, within_s=20, what="the other one")
            refused_again = await upstream.ask(QUESTION)
            upstream.renew(tls=trusting(authority), egress_proxy=None)
            accepted = await upstream.ask(QUESTION)
            assert isinstance(accepted, UpstreamAnswer)
            accepted.close()

    assert refused == refused_again == UpstreamFailed(cause=UpstreamCause.TLS_UNTRUSTED)
    assert body == b"sealed"


async def test_another_egress_proxy_counts_from_the_next_request_on() -> None:
    """Its URL may hold a password, so it may come from a file and change."""
    authority = trustme.CA()
    async with tls_upstream(authority) as there:
        egress = EgressProxy(to_port=there.port)
        server = await asyncio.start_server(egress.serve, "127.0.0.1", 0)
        egress.port = server.sockets[0].getsockname()[1]
        tls = trusting(authority)
        options = UpstreamOptions(url=f"https://127.0.0.1:{there.port}", tls=tls)
        asked: list[int] = []
        async with asking(options) as upstream:
            for _ in range(2):
                got = await upstream.ask(QUESTION)
                assert isinstance(got, UpstreamAnswer)
                await got.body.read()
                got.close()
                asked.append(len(egress.asked))
                upstream.renew(tls=tls, egress_proxy=f"http://127.0.0.1:{egress.port}")
        server.close()

    assert asked == [0, 1]


@pytest.mark.parametrize(
    "surplus",
    [
        b"HTTP/1.1 200 Connected\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 Connected\r\n\r\n\x15\x03\x03\x00\x02\x02\x28",
        b"HTTP/1.1 200 Connected\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 Connected\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
    ],
)
async def test_a_tunnel_in_which_somebody_speaks_first_is_not_used(surplus: bytes) -> None:
    """What comes before our first octet of TLS is not the upstream's: nothing is sent."""
    authority = trustme.CA()
    async with tls_upstream(authority) as there:
        egress = EgressProxy(to_port=there.port, answer=surplus)
        server = await asyncio.start_server(egress.serve, "127.0.0.1", 0)
        options = UpstreamOptions(
            url=f"https://{HOST}",
            tls=trusting(authority),
            egress_proxy=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}",
        )
        async with asking(options) as upstream:
            got = await upstream.ask(QUESTION)
        server.close()

    assert got == UpstreamFailed(cause=UpstreamCause.MALFORMED_ANSWER)
    assert there.requests == []


@pytest.mark.parametrize("root", ["/prefix", "/prefix/"])
async def test_a_root_with_a_path_is_put_before_every_target(root: str) -> None:
    """The upstream may live below a path; the target follows it octet for octet."""
    authority = trustme.CA()
    async with tls_upstream(authority) as there:
        options = UpstreamOptions(
            url=f"https://127.0.0.1:{there.port}{root}", tls=trusting(authority)
        )
        async with asking(options) as upstream:
            got = await upstream.ask(QUESTION)
            assert isinstance(got, UpstreamAnswer)
            got.close()

    assert there.requests[0].head.start_line == b"GET /prefix/balances/v2/mikomo HTTP/1.1"
