"""How the proxy takes the end of an answer, and of a connection, on both loops and with TLS."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator

import pytest
import uvloop

from sidecar.domain.events import RequestOutcome
from sidecar.domain.upstream_failures import UpstreamCause
from sidecar.http.upstream import UpstreamAnswer
from tests.support.asking import asking, question
from tests.support.proxy_rig import Rig, running_proxy
from tests.support.raw_http import (
    Asked,
    RawClient,
    RawHead,
    RawUpstream,
    Step,
    answer,
    request,
    running_upstream,
)
from tests.support.tls import LoopbackTls, loopback_tls
from tests.support.wait import until

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
OK = b"HTTP/1.1 200 OK\r\n"
BEGUN = {
    "length": OK + b"Content-Length: 9\r\n\r\nabc",
    "chunks": OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    "last chunk": OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n",
}
"""Answers that are not whole."""

UNFRAMED = OK + b"\r\nabc"
OLD = b"GET /balances/v2/mikomo HTTP/1.0"
NEW = b"GET /balances/v2/mikomo HTTP/1.1"


def close(asked: Asked) -> None:
    """End the connection as usual: with TLS's close_notify, where there is TLS."""
    asked.writer.close()


def cut(asked: Asked) -> None:
    """End the stream below TLS, which is not told."""
    asked.on_wire(lambda own: own.shutdown(socket.SHUT_WR))


def reset(asked: Asked) -> None:
    asked.reset()


Ending = Callable[[Asked], None]
GENTLE: dict[str, Ending] = {"closed": close, "cut": cut}
ENDINGS: dict[str, Ending] = GENTLE | {"reset": reset}


@pytest.fixture(params=list(LOOPS.values()), ids=list(LOOPS))
def runner(request: pytest.FixtureRequest) -> Iterator[asyncio.Runner]:
    with asyncio.Runner(loop_factory=request.param) as runner:
        yield runner


@pytest.fixture(params=[False, True], ids=["plain", "tls"], scope="module")
def tls(request: pytest.FixtureRequest) -> LoopbackTls | None:
    return loopback_tls() if request.param else None


def then(octets: bytes, end: Ending, *, go_on: asyncio.Event) -> Step:
    """Return a step that sends `octets`, and ends the connection when it is told to."""

    async def send(asked: Asked) -> None:
        asked.writer.write(octets)
        await asked.writer.drain()
        await go_on.wait()
        end(asked)
        await asked.wait_for_close()

    return send


async def read_rest(client: RawClient) -> tuple[bytes, bool]:
    """Return what comes up to the end of the connection, and whether it ends as usual."""
    got = b""
    try:
        while part := await client.reader.read(65536):
            got += part
    except ConnectionError:
        return got, False
    return got, True


async def ask_one_that_ends(
    octets: bytes, end: Ending, *, tls: LoopbackTls | None, line: bytes = NEW
) -> tuple[Rig, RawHead, bytes, bool]:
    """Ask an upstream whose answer ends so; return the head, the rest, and whether it ends well."""
    go_on = asyncio.Event()
    async with running_proxy(then(octets, end, go_on=go_on), tls=tls) as rig, rig.client() as it:
        await it.send(request(line=line))
        head = await it.read_head()
        go_on.set()
        async with asyncio.timeout(10):
            got, is_usual = await read_rest(it)
        await until(lambda: bool(rig.completed), within_s=10, what="the end of the call")
        return rig, head, got, is_usual


@pytest.mark.parametrize("line", [NEW, OLD], ids=["1.1", "1.0"])
@pytest.mark.parametrize("end", GENTLE.values(), ids=GENTLE)
def test_an_answer_that_ends_with_its_connection_is_passed_on_as_one(
    runner: asyncio.Runner, tls: LoopbackTls | None, end: Ending, line: bytes
) -> None:
    """Nothing claims that such a body is whole: no last chunk, and the connection ends with it."""
    rig, head, got, is_usual = runner.run(ask_one_that_ends(UNFRAMED, end, tls=tls, line=line))

    assert head.headers == ((b"Connection", b"close"),)
    assert (got, is_usual) == (b"abc", True)
    assert rig.completed[0].outcome is RequestOutcome.PASSED


@pytest.mark.parametrize("line", [NEW, OLD], ids=["1.1", "1.0"])
def test_a_reset_is_no_end_of_an_answer(
    runner: asyncio.Runner, tls: LoopbackTls | None, line: bytes
) -> None:
    """Where the upstream's connection is reset, so is the client's."""
    rig, _, _, is_usual = runner.run(ask_one_that_ends(UNFRAMED, reset, tls=tls, line=line))

    assert not is_usual
    assert rig.completed[0].outcome is RequestOutcome.UPSTREAM_BROKE
    assert rig.completed[0].cause is UpstreamCause.RESET


@pytest.mark.parametrize("end", ENDINGS.values(), ids=ENDINGS)
@pytest.mark.parametrize("octets", BEGUN.values(), ids=BEGUN)
def test_an_answer_that_ends_too_early_never_looks_whole(
    runner: asyncio.Runner, tls: LoopbackTls | None, octets: bytes, end: Ending
) -> None:
    """However the connection ends, the client gets less than was announced, and a reset."""
    rig, _, got, is_usual = runner.run(ask_one_that_ends(octets, end, tls=tls))

    assert b"0\r\n\r\n" not in got
    assert not is_usual
    assert rig.completed[0].outcome is RequestOutcome.UPSTREAM_BROKE
    assert rig.completed[0].cause in {UpstreamCause.CLOSED, UpstreamCause.RESET}


async def ask_twice(
    meddle: Ending, *, tls: LoopbackTls | None, method: str
) -> tuple[RawUpstream, list[bytes]]:
    """Ask, let the upstream meddle with the idle connection unseen by the loop, and ask again."""
    kept: list[Asked] = []
    bodies: list[bytes] = []

    async def answer_and_keep(asked: Asked) -> None:
        await asked.read_body()
        kept.append(asked)
        asked.writer.write(answer(b"first"))
        await asked.wait_for_close()

    script = (answer_and_keep, answer(b"second"))
    async with (
        running_upstream(*script, tls=None if tls is None else tls.server) as there,
        asking(there.port, tls=None if tls is None else tls.client) as upstream,
    ):
        for _ in range(2):
            answered = await upstream.ask(question(method, body=b"x"))
            assert isinstance(answered, UpstreamAnswer)
            bodies.append(await answered.body.read())
            answered.close()
            if kept:
                # Nothing is awaited from here to the next request: the loop cannot notice.
                meddle(kept.pop())
    return there, bodies


def send_unasked(asked: Asked) -> None:
    asked.on_wire(lambda own: own.send(answer(b"poison")))


MEDDLING: dict[str, Ending] = {"cut": cut, "unasked": send_unasked}


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("meddle", MEDDLING.values(), ids=MEDDLING)
def test_a_connection_that_was_not_quiet_carries_no_other_request(
    runner: asyncio.Runner, tls: LoopbackTls | None, meddle: Ending, method: str
) -> None:
    """What came while it lay in the pool, its end too, is noticed before it is used."""
    there, bodies = runner.run(ask_twice(meddle, tls=tls, method=method))

    assert bodies == [b"first", b"second"]
    assert (there.connections, len(there.requests)) == (2, 2)
