"""Why there is no answer of the upstream: each cause met for real, and told by its name."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import aiohttp
import pytest
import trustme
from aiohttp.client_reqrep import ConnectionKey

from sidecar.domain.events import RequestOutcome, ResourceExhausted
from sidecar.domain.resources import NeededAt, Resource
from sidecar.domain.tokens import ProblemReason
from sidecar.domain.upstream_failures import UpstreamCause
from sidecar.http.connect_causes import cause_of
from sidecar.http.upstream import Upstream, UpstreamFailed, UpstreamOptions
from tests.support.asking import asking, question
from tests.support.descriptors import no_descriptors_left
from tests.support.proxy_rig import running_proxy
from tests.support.raw_http import Asked, Step, answer, request, running_upstream
from tests.support.wait import until

HERE = "127.0.0.1"
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
SOON = datetime(2100, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """What a server shows to a client that trusts its authority, or does not."""

    name: str = HERE
    is_trusted: bool = True
    not_before: datetime | None = None
    not_after: datetime | None = None


CERTIFICATES = {
    UpstreamCause.TLS_UNTRUSTED: [Certificate(is_trusted=False)],
    UpstreamCause.TLS_NAME: [Certificate(name="127.0.0.2"), Certificate(name="other.example")],
    UpstreamCause.TLS_EXPIRED: [
        Certificate(not_after=LONG_AGO),
        Certificate(not_before=SOON, not_after=SOON + timedelta(days=1)),
    ],
}


def contexts(certificate: Certificate) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return the TLS of a server with this certificate, and of its client."""
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(
        certificate.name, not_before=certificate.not_before, not_after=certificate.not_after
    ).configure_cert(server)  # pyright: ignore[reportUnknownMemberType]
    client = ssl.create_default_context()
    trusted = authority if certificate.is_trusted else trustme.CA()
    trusted.configure_trust(client)  # pyright: ignore[reportUnknownMemberType]
    return server, client


async def cause_at(upstream: Upstream) -> UpstreamCause:
    failed = await upstream.ask(question())
    assert isinstance(failed, UpstreamFailed)
    return failed.cause


@pytest.mark.parametrize(
    ("cause", "certificate"),
    [(cause, each) for cause, several in CERTIFICATES.items() for each in several],
    ids=str,
)
async def test_a_certificate_that_is_refused_says_what_is_wrong_with_it(
    cause: UpstreamCause, certificate: Certificate
) -> None:
    """An authority, a name and a date are three different repairs."""
    server, client = contexts(certificate)
    async with (
        running_upstream(answer(), tls=server) as there,
        asking(there.port, tls=client) as upstream,
    ):
        assert await cause_at(upstream) is cause


async def test_a_server_without_tls_is_told_apart_from_its_certificate() -> None:
    """Where no TLS comes back, the certificate is not to blame."""
    _, client = contexts(Certificate())

    async def speak_plainly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(answer(status=b"400 Bad Request"))
        await writer.drain()
        writer.close()

    async with serving(speak_plainly) as port, asking(port, tls=client) as upstream:
        assert await cause_at(upstream) is UpstreamCause.TLS_OTHER


async def test_a_handshake_that_never_ends_is_a_timeout_of_the_connection() -> None:
    """The time for a connection includes its TLS."""
    _, client = contexts(Certificate())

    async def stay_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with serving(stay_silent) as port:
        options = UpstreamOptions(url=f"https://{HERE}:{port}", connect_timeout_s=0.2, tls=client)
        upstream = Upstream(options=options)
        try:
            assert await cause_at(upstream) is UpstreamCause.CONNECT_TIMEOUT
        finally:
            await upstream.close()


async def test_a_connection_that_ends_within_the_handshake_was_reset() -> None:
    """What stands before the upstream and cuts connections is no question of certificates."""
    _, client = contexts(Certificate())

    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.transport.abort()

    async with serving(cut) as port, asking(port, tls=client) as upstream:
        assert await cause_at(upstream) is UpstreamCause.RESET


async def hang_up(asked: Asked) -> None:
    asked.writer.close()


async def reset(asked: Asked) -> None:
    asked.reset()


@pytest.mark.parametrize(
    ("step", "status", "cause"),
    [
        (hang_up, 502, UpstreamCause.CLOSED),
        (reset, 502, UpstreamCause.RESET),
        (b"nonsense\r\n\r\n", 502, UpstreamCause.MALFORMED_ANSWER),
        (Asked.wait_for_close, 504, UpstreamCause.SILENT),
    ],
)
async def test_the_line_of_a_request_says_why_it_got_no_answer(
    step: Step, status: int, cause: UpstreamCause
) -> None:
    """`request.completed` has the cause, whatever the client is told."""
    async with running_proxy(step, timeout_s=0.2) as rig, rig.client() as client:
        got = await client.ask(request())

    assert (got.status, rig.completed[0].status) == (status, status)
    assert rig.completed[0].cause is cause


async def test_a_port_where_nothing_listens_refuses() -> None:
    """The everyday cause of a 502."""
    async with running_proxy(answer(), upstream_port=1) as rig, rig.client() as client:
        got = await client.ask(request())

    assert (got.status, rig.completed[0].cause) == (502, UpstreamCause.REFUSED)


async def test_an_answer_that_ends_too_early_says_why() -> None:
    """A broken body is told with its cause too."""

    async def break_off(asked: Asked) -> None:
        asked.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
        await asked.writer.drain()
        asked.writer.close()

    async with running_proxy(break_off) as rig, rig.client() as client:
        await client.send(request())
        await client.read_head()
        await until(lambda: bool(rig.completed), within_s=10, what="the end of the call")

    assert rig.completed[0].outcome is RequestOutcome.UPSTREAM_BROKE
    assert rig.completed[0].cause is UpstreamCause.CLOSED


@pytest.mark.parametrize(
    ("told", "cause"),
    [
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", UpstreamCause.EGRESS_PROXY),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", UpstreamCause.EGRESS_PROXY),
        (b"nonsense\r\n\r\n", UpstreamCause.MALFORMED_ANSWER),
    ],
)
async def test_an_egress_proxy_that_makes_no_tunnel_is_named(
    told: bytes, cause: UpstreamCause
) -> None:
    """The upstream is not to blame for what stands before it."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(told)
        await reader.read()
        writer.close()

    async with serving(refuse) as port, behind_proxy(port) as upstream:
        assert await cause_at(upstream) is cause


async def test_an_egress_proxy_that_is_away_is_named() -> None:
    """Nothing listens at the proxy's port: that is not the upstream's refusal."""
    async with behind_proxy(1) as upstream:
        assert await cause_at(upstream) is UpstreamCause.EGRESS_PROXY


async def test_a_sidecar_without_descriptors_says_so() -> None:
    """It is our fault and not the upstream's: 503, and told by name each time."""
    async with running_proxy(answer()) as rig, rig.client() as client:
        with no_descriptors_left():
            got = [await client.ask(request()) for _ in range(3)]
        later = await client.ask(request())

    assert {(each.status, each.value(b"sidecar-error")) for each in got} == {(503, b"overloaded")}
    assert [event.cause for event in rig.completed] == [UpstreamCause.NO_DESCRIPTORS] * 3 + [None]
    assert {event.reason for event in rig.completed[:3]} == {ProblemReason.OVERLOADED}
    assert (
        rig.observer.of(ResourceExhausted)
        == [ResourceExhausted(resource=Resource.DESCRIPTORS, where=NeededAt.UPSTREAM)] * 3
    )
    assert later.status == 200


async def test_a_sidecar_without_descriptors_is_not_made_to_try_again() -> None:
    """A retry would need what there is none of, and make it worse."""
    async with (
        running_proxy(answer(), options=lambda it: replace(it, upstream_retries=3)) as rig,
        rig.client() as client,
    ):
        with no_descriptors_left():
            got = await client.ask(request())

    assert (got.status, len(rig.observer.of(ResourceExhausted))) == (503, 1)


async def test_a_sidecar_without_descriptors_uses_the_connections_that_it_has() -> None:
    """A connection of the pool needs no new descriptor."""
    async with running_proxy(answer(b"1"), answer(b"2")) as rig, rig.client() as client:
        await client.ask(request())
        with no_descriptors_left():
            got = await client.ask(request())

    assert (got.body, rig.upstream.connections) == (b"2", 1)


async def test_a_resolver_without_descriptors_is_no_name_without_an_address() -> None:
    """A lookup needs files and sockets too: where there are none, DNS is not to blame."""
    # The first lookup of a process may say what it lacks; later ones only find no address.
    await asyncio.get_running_loop().getaddrinfo("localhost", 0)
    async with running_upstream(answer()) as there, asking(there.port, host="localhost") as it:
        with no_descriptors_left():
            assert await cause_at(it) is UpstreamCause.NO_DESCRIPTORS


KEY = ConnectionKey(
    "a", 1, is_ssl=False, ssl=True, proxy=None, proxy_auth=None, proxy_headers_hash=None
)


def of_connector(error: OSError) -> Exception:
    return aiohttp.ClientConnectorError(KEY, error)


def of_proxy(error: OSError) -> Exception:
    return aiohttp.ClientProxyConnectionError(KEY, error)


RAISED: list[tuple[Exception, UpstreamCause]] = [
    (aiohttp.ClientConnectorDNSError(KEY, socket.gaierror(-2, "no")), UpstreamCause.DNS),
    (of_connector(OSError(errno.EHOSTUNREACH, "")), UpstreamCause.UNREACHABLE),
    (of_connector(OSError(errno.ENETUNREACH, "")), UpstreamCause.UNREACHABLE),
    (of_connector(OSError("several")), UpstreamCause.UNREACHABLE),
    (of_connector(OSError(errno.ETIMEDOUT, "")), UpstreamCause.CONNECT_TIMEOUT),
    (of_connector(OSError(errno.ENFILE, "")), UpstreamCause.NO_SYSTEM_DESCRIPTORS),
    (of_connector(OSError(errno.ENOBUFS, "")), UpstreamCause.NO_MEMORY),
    (of_proxy(OSError(errno.EMFILE, "")), UpstreamCause.NO_DESCRIPTORS),
    (of_proxy(OSError(errno.ECONNREFUSED, "")), UpstreamCause.EGRESS_PROXY),
    (aiohttp.ServerDisconnectedError(), UpstreamCause.CLOSED),
    (TimeoutError(), UpstreamCause.CONNECT_TIMEOUT),
    (OSError(errno.EMFILE, ""), UpstreamCause.NO_DESCRIPTORS),
]


@pytest.mark.parametrize(("raised", "cause"), RAISED)
def test_what_is_raised_has_a_cause(raised: Exception, cause: UpstreamCause) -> None:
    """The causes that no test can bring about on every machine."""
    assert cause_of(raised) is cause


@asynccontextmanager
async def serving(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], object],
) -> AsyncGenerator[int]:
    """Serve a raw port of loopback."""
    server = await asyncio.start_server(serve, HERE, 0)  # type: ignore[arg-type]
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@asynccontextmanager
async def behind_proxy(port: int) -> AsyncGenerator[Upstream]:
    upstream = Upstream(
        options=UpstreamOptions(
            url="https://products.example", egress_proxy=f"http://{HERE}:{port}"
        )
    )
    try:
        yield upstream
    finally:
        await upstream.close()
