"""Each listener keeps its connections few, and a slow peer holds neither slots nor memory."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web

from sidecar.domain.addresses import TcpAddress
from sidecar.domain.connection_table import DropCause, ListenerName, PeerPatience
from sidecar.domain.events import (
    ConnectionDropped,
    ConnectionsCounted,
    ListenerFilled,
    ResourceExhausted,
)
from sidecar.domain.pace import Pace
from sidecar.domain.resources import NeededAt, Resource
from sidecar.domain.tokens import ProblemReason
from sidecar.http.accepting import Acceptor
from sidecar.http.connections import ConnectionLimits, ProxyServer, runner_of
from sidecar.http.listening import bind_sockets, listen
from sidecar.http.probes import SCRAPES_MOST, ProbeOptions
from sidecar.http.problems import to_proxy_problem
from sidecar.http.request_body import RequestBody
from sidecar.http.upstream import UploadStopped
from tests.support.connect_rig import running_connect
from tests.support.listeners import LINK
from tests.support.loops import LOOPS, run_on
from tests.support.probes_rig import running_probes
from tests.support.proxy_rig import RecordingObserver, running_proxy
from tests.support.raw_http import Asked, RawClient, answer, connected, request
from tests.support.tls import private_tls
from tests.support.wait import a_while, until

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
LIVEZ = b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n"
Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


def drops(observer: RecordingObserver) -> list[DropCause]:
    return [event.cause for event in observer.of(ConnectionDropped)]


async def say_hello(request: web.BaseRequest) -> web.StreamResponse:
    del request
    return web.Response(text="hello")


def new_server(
    observer: RecordingObserver,
    handler: Handler = say_hello,
    *,
    most: int = 100,
    patience: PeerPatience | None = None,
) -> ProxyServer:
    faults: list[BaseException] = []
    return ProxyServer(
        handler,
        listener=ListenerName.PROXY,
        observer=observer,
        refuse_malformed=lambda reason: to_proxy_problem(ProblemReason(reason)),
        report_fault=faults.append,
        limits=ConnectionLimits(
            keepalive_s=60,
            max_header_bytes=65536,
            most=most,
            patience=patience or PeerPatience(head_s=0.2, stalled_s=0.2),
        ),
    )


@asynccontextmanager
async def served(server: ProxyServer, *, tls: ssl.SSLContext | None = None) -> AsyncGenerator[int]:
    address = TcpAddress(host="127.0.0.1", port=0)
    listener = await listen(runner_of(server), address=address, tls=tls)
    try:
        yield listener.port
    finally:
        await listener.close()


async def is_open(client: RawClient) -> bool:
    """Whether a connection still answers."""
    try:
        return (await client.ask(LIVEZ)).status == 200
    except (OSError, asyncio.IncompleteReadError):
        return False


async def test_the_oldest_idle_connection_goes_for_a_new_one() -> None:
    """A listener with all the connections that it may have still answers whoever comes."""
    async with running_probes(ProbeOptions(max_connections=3)) as rig, AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connected(rig.port)) for _ in range(3)]
        assert [await is_open(client) for client in clients] == [True] * 3
        assert await is_open(clients[0])
        new = await stack.enter_async_context(connected(rig.port))

        assert await is_open(new)
        async with asyncio.timeout(10):
            assert await clients[1].is_closed_by_peer()
        assert [await is_open(client) for client in (clients[0], clients[2])] == [True] * 2
    assert drops(rig.observer) == [DropCause.MADE_ROOM]


async def test_a_full_listener_refuses_what_it_cannot_take_and_tells() -> None:
    """While every connection waits for its answer, a new one is closed at once, and counted."""
    release = asyncio.Event()

    async def wait(asked: Asked) -> None:
        await release.wait()
        asked.writer.write(answer(b"late"))
        await asked.writer.drain()

    async with (
        running_proxy(wait, options=lambda it: replace(it, max_connections=1)) as rig,
        rig.client() as first,
    ):
        await first.send(request())
        await until(lambda: rig.proxy.in_flight == 1, within_s=10, what="the first request")
        for _ in range(3):
            async with rig.client() as refused:
                assert await refused.is_closed_by_peer()
        release.set()
        assert (await first.read_answer()).body == b"late"
        async with rig.client() as second:
            assert (await second.ask(request())).status == 200

    assert drops(rig.observer) == [DropCause.FULL] * 3 + [DropCause.MADE_ROOM]
    filled = ListenerFilled(listener=ListenerName.PROXY, limit=1)
    assert rig.observer.of(ListenerFilled) == [filled] * 3


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("sent", [b"GET / HTTP/1.1\r\nHost: a\r\nX", GET + b"GET"])
def test_a_head_has_its_time_as_a_whole(loop: str, sent: bytes) -> None:
    """One that drips is closed when its time is over, whenever its last byte came."""

    async def scenario() -> None:
        observer = RecordingObserver()
        async with served(new_server(observer)) as port, connected(port) as client:
            await client.send(sent)
            drip = asyncio.ensure_future(client.drip(every_s=0.05))
            await until(
                lambda: drops(observer) == [DropCause.SLOW_HEAD], within_s=10, what="the end"
            )
            drip.cancel()

    run_on(loop, scenario())


@pytest.mark.parametrize("loop", LOOPS)
def test_an_idle_connection_is_not_a_slow_one(loop: str) -> None:
    """Neither before its first request nor after it, nor with a blank line behind it."""

    async def scenario() -> None:
        observer = RecordingObserver()
        async with served(new_server(observer)) as port, connected(port) as client:
            await a_while(0.7)  # more than a sweep
            assert (await client.ask(GET + b"\r\n")).body == b"hello"
            await a_while(0.7)
            assert (await client.ask(GET)).body == b"hello"
        assert drops(observer) == []

    run_on(loop, scenario())


@pytest.mark.parametrize("loop", LOOPS)
def test_a_client_that_never_takes_its_answer_is_closed(loop: str) -> None:
    """Nor does it hold up the end of the process."""
    large = b"a" * (8 << 20)

    async def say_much(request: web.BaseRequest) -> web.StreamResponse:
        del request
        return web.Response(body=large)

    async def scenario() -> None:
        observer = RecordingObserver()
        async with served(new_server(observer, say_much)) as port, connected(port) as client:
            client.hold_back()
            await client.send(GET)
            await until(
                lambda: drops(observer) == [DropCause.SLOW_READER], within_s=10, what="the end"
            )
            client.abort()

    run_on(loop, scenario())


@pytest.mark.parametrize("loop", LOOPS)
def test_a_handshake_has_its_time_and_counts_as_a_connection(loop: str, tmp_path: Path) -> None:
    """A peer that never speaks TLS is closed, and may not keep others out meanwhile."""
    tls = private_tls(tmp_path)
    trusting = ssl.create_default_context(cafile=str(tls.ca_file))

    async def scenario() -> None:
        observer = RecordingObserver()
        server = new_server(observer, most=3, patience=PeerPatience(head_s=1.5))
        async with served(server, tls=tls.server) as port, AsyncExitStack() as stack:
            silent = [await stack.enter_async_context(connected(port)) for _ in range(3)]
            await until(lambda: len(server.keeper) == 3, within_s=10, what="all of them")
            reader, writer = await asyncio.open_connection(
                "localhost", port, ssl=trusting, server_hostname="localhost"
            )
            told = await RawClient(reader, writer).ask(GET)
            writer.transport.abort()
            await until(lambda: len(drops(observer)) == 3, within_s=10, what="their end")
            closed = [await client.is_closed_by_peer() for client in silent]

        assert told.body == b"hello"
        assert closed == [True] * 3
        assert sorted(drops(observer)) == [DropCause.HANDSHAKE] * 2 + [DropCause.MADE_ROOM]
        assert len(server.keeper) == 0

    run_on(loop, scenario())


@pytest.mark.parametrize("loop", LOOPS)
def test_what_is_no_tls_at_all_is_counted(loop: str, tmp_path: Path) -> None:
    """A plain request to a TLS port leaves nothing behind."""
    tls = private_tls(tmp_path)

    async def scenario() -> None:
        observer = RecordingObserver()
        server = new_server(observer)
        async with served(server, tls=tls.server) as port, connected(port) as client:
            await client.send(GET)
            await until(
                lambda: drops(observer) == [DropCause.HANDSHAKE], within_s=10, what="the end"
            )
            assert len(server.keeper) == 0

    run_on(loop, scenario())


SHORTAGES = {
    errno.EMFILE: Resource.DESCRIPTORS,
    errno.ENFILE: Resource.SYSTEM_DESCRIPTORS,
    errno.ENOBUFS: Resource.MEMORY,
    errno.ENOMEM: Resource.MEMORY,
}


class ExhaustedSocket(socket.socket):
    """A listening socket of a process that has run out of something for a while."""

    errors: tuple[int, ...] = ()

    def accept(self) -> tuple[socket.socket, object]:
        if self.errors:
            number, *left = self.errors
            self.errors = tuple(left)
            raise OSError(number, os.strerror(number))
        return super().accept()


@pytest.mark.parametrize("loop", LOOPS)
def test_a_system_that_is_out_is_told_by_name_and_survived(loop: str) -> None:
    """On uvloop its own server would close the listener for good; on asyncio's nobody is told."""

    async def scenario() -> None:
        observer = RecordingObserver()
        server = new_server(observer)
        (bound,) = bind_sockets(TcpAddress(host="127.0.0.1", port=0))
        listening = ExhaustedSocket(fileno=bound.detach())
        listening.errors = tuple(SHORTAGES)
        port = listening.getsockname()[1]
        acceptor = Acceptor(server=server, sockets=[listening], tls=None)
        runner = runner_of(server)
        await runner.setup()
        acceptor.start(backlog=8)
        try:
            async with connected(port) as client:
                told = await client.ask(GET)
        finally:
            await acceptor.close()
            await runner.cleanup()

        assert told.body == b"hello"
        assert observer.of(ResourceExhausted) == [
            ResourceExhausted(resource=resource, where=NeededAt.ACCEPT)
            for resource in SHORTAGES.values()
        ]

    run_on(loop, scenario())


@pytest.mark.parametrize("loop", LOOPS)
def test_a_connection_that_is_gone_before_it_is_accepted_costs_nothing(loop: str) -> None:
    """ECONNABORTED and its like are no shortage: the next one is taken at once."""

    async def scenario() -> None:
        observer = RecordingObserver()
        server = new_server(observer)
        (bound,) = bind_sockets(TcpAddress(host="127.0.0.1", port=0))
        listening = ExhaustedSocket(fileno=bound.detach())
        listening.errors = (errno.ECONNABORTED, errno.EPROTO)
        port = listening.getsockname()[1]
        acceptor = Acceptor(server=server, sockets=[listening], tls=None)
        runner = runner_of(server)
        await runner.setup()
        acceptor.start(backlog=8)
        try:
            async with connected(port) as client:
                told = await client.ask(GET)
        finally:
            await acceptor.close()
            await runner.cleanup()

        assert told.body == b"hello"
        assert observer.of(ResourceExhausted) == []

    run_on(loop, scenario())


async def test_the_number_of_connections_is_told() -> None:
    """Each change is, at the next sweep, beside what there may be."""
    async with running_probes(ProbeOptions(max_connections=7)) as rig:
        async with connected(rig.port) as client:
            assert await is_open(client)
            await until(lambda: _counted(rig.observer) == (1, 7), within_s=10, what="one")
        await until(lambda: _counted(rig.observer) == (0, 7), within_s=10, what="none")


def _counted(observer: RecordingObserver) -> tuple[int, int]:
    last = observer.of(ConnectionsCounted)[-1]
    return last.connections, last.limit


async def test_probes_do_not_wait_for_scrapes() -> None:
    """With as many scrapes under way as may be, one more is told to come again."""
    async with running_probes() as rig, AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(connected(rig.port)) for _ in range(SCRAPES_MOST + 1)
        ]
        rig.hold.clear()
        for client in clients:
            await client.send(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
        prober = await stack.enter_async_context(connected(rig.port))
        assert await is_open(prober)
        rig.hold.set()
        told = [(await client.read_answer()).status for client in clients]

    assert sorted(told) == [200] * SCRAPES_MOST + [503]


async def test_forms_that_drip_take_no_place() -> None:
    """With room for one visit, twenty visitors who send a form for ever keep nobody out."""
    head = b"Host: a\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    cookie = b"Cookie: __Host-connect=" + b"0" * 32 + b"\r\n"
    form = b"POST " + LINK + b" HTTP/1.1\r\n" + head + cookie + b"Content-Length: 40\r\n\r\np"
    async with running_connect(max_in_flight=1) as rig, AsyncExitStack() as stack:
        for _ in range(20):
            client = await stack.enter_async_context(connected(rig.port))
            await client.send(form)
        await a_while(0.1)  # until they are being read
        visitor = await stack.enter_async_context(connected(rig.port))
        told = await visitor.ask(b"GET " + LINK + b" HTTP/1.1\r\nHost: a\r\n\r\n")

    assert told.status == 410


async def test_a_form_without_its_cookie_is_not_read() -> None:
    """It is refused at once, whatever it would say."""
    head = b"POST " + LINK + b" HTTP/1.1\r\nHost: a\r\nContent-Length: 40\r\n"
    form = head + b"Content-Type: application/x-www-form-urlencoded\r\n\r\n"
    async with running_connect() as rig, connected(rig.port) as client:
        told = await client.ask(form)

    assert told.status == 403


async def test_uploads_that_drip_take_no_place_of_the_proxy() -> None:
    """Calls whose small bodies are still coming leave the slots to those that are whole."""
    line = b"POST /payments/v2/mikomo HTTP/1.1"
    async with (
        running_proxy(answer(b"ok"), options=lambda it: replace(it, max_in_flight=1)) as rig,
        AsyncExitStack() as stack,
    ):
        for _ in range(20):
            client = await stack.enter_async_context(rig.client())
            await client.send(request(b"Content-Length: 10", line=line, body=b"a"))
        await until(lambda: rig.proxy.in_flight == 20, within_s=10, what="all uploads")
        healthy = await stack.enter_async_context(rig.client())
        told = await healthy.ask(request())

    assert (told.status, told.body) == (200, b"ok")


async def test_a_body_that_drips_ends_in_time() -> None:
    """A byte now and then is no progress; a body at the least rate or above it is whole."""
    loop = asyncio.get_running_loop()
    pace = Pace(grace_s=0.3, bytes_per_s=1000)

    def body_of(stream: asyncio.StreamReader) -> RequestBody:
        return RequestBody(
            stream=stream,  # type: ignore[arg-type]  # as far as it is used, they are alike
            length=None,
            limit_bytes=0,
            silence_s=60,
            pace=pace,
        )

    slow, fast = _Drip(every_s=0.1, size=1), _Drip(every_s=0.1, size=500)
    since_s = loop.time()
    with pytest.raises(UploadStopped):
        await body_of(slow).take_whole(keep_bytes=10**6)  # type: ignore[arg-type]

    assert loop.time() - since_s >= 0.29
    assert len(await body_of(fast).take_whole(keep_bytes=10**6) or b"") == 4000  # type: ignore[arg-type]


class _Drip:
    """A body of eight pieces."""

    def __init__(self, *, every_s: float, size: int) -> None:
        self._every_s = every_s
        self._size = size
        self._left = 8

    async def readany(self) -> bytes:
        if not self._left:
            return b""
        self._left -= 1
        await a_while(self._every_s)
        return b"a" * self._size
