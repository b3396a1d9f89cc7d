from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from sidecar.domain.events import UpstreamAnswered, UpstreamClass
from sidecar.domain.upstream_failures import UpstreamCause
from sidecar.http.proxy import ProxyOptions
from tests.support.proxy_rig import Rig, running_proxy
from tests.support.raw_http import Asked, Step, answer, request
from tests.support.wait import until

BUSY = answer(b"busy", status=b"503 Busy")
POST = b"POST /payments/v2/mikomo HTTP/1.1"


def retries(count: int) -> Callable[[ProxyOptions], ProxyOptions]:
    return lambda options: replace(options, upstream_retries=count)


async def hang_up(asked: Asked) -> None:
    asked.writer.close()


@pytest.mark.parametrize(
    "status", [b"503 Busy", b"500 Oops", b"408 Timeout", b"429 Slow down", b"502 Bad Gateway"]
)
async def test_a_get_that_failed_is_repeated(status: bytes) -> None:
    """With retries on, the client sees the answer of the repeat."""
    failed = answer(status=status)
    async with (
        running_proxy(failed, answer(b"fine"), options=retries(1)) as rig,
        rig.client() as client,
    ):
        got = await client.ask(request())

    assert (got.status, got.body) == (200, b"fine")
    assert len(rig.upstream.requests) == 2
    assert len(rig.observer.of(UpstreamAnswered)) == 2


async def test_a_get_without_an_answer_is_repeated() -> None:
    """A connection that breaks before the answer is a failure like any other."""
    async with (
        running_proxy(hang_up, answer(b"fine"), options=retries(1)) as rig,
        rig.client() as client,
    ):
        got = await client.ask(request())

    assert (got.body, len(rig.upstream.requests)) == (b"fine", 2)


async def test_the_last_failure_is_passed_on() -> None:
    """When every repeat failed the client gets the upstream's own answer."""
    async with running_proxy(BUSY, options=retries(2)) as rig, rig.client() as client:
        got = await client.ask(request())

    assert (got.status, got.body, len(rig.upstream.requests)) == (503, b"busy", 3)


async def test_nothing_is_repeated_unless_configured() -> None:
    """Retries are off by default, for failures of either kind."""
    async with running_proxy(BUSY, hang_up) as rig, rig.client() as client:
        first = await client.ask(request())
    async with running_proxy(hang_up) as other, other.client() as client:
        second = await client.ask(request())

    assert (first.status, len(rig.upstream.requests)) == (503, 1)
    assert (second.value(b"sidecar-error"), len(other.upstream.requests)) == (
        b"upstream_unreachable",
        1,
    )


@pytest.mark.parametrize("step", [BUSY, hang_up])
async def test_a_post_is_never_repeated(step: Step) -> None:
    """What may have an effect is sent once."""
    async with (
        running_proxy(step, options=retries(3)) as rig,
        rig.client() as client,
    ):
        await client.ask(request(b"Content-Length: 2", line=POST, body=b"hi"))

    assert len(rig.upstream.requests) == 1


async def test_a_404_is_no_failure() -> None:
    """An answer that repeats would not change is passed on at once."""
    gone = answer(status=b"404 Not Found")
    async with running_proxy(gone, options=retries(3)) as rig, rig.client() as client:
        await client.ask(request())

    assert len(rig.upstream.requests) == 1


async def test_a_long_retry_after_is_the_clients_to_wait_for() -> None:
    """The sidecar does not hold a request for longer than it was told to; it passes the wish on."""
    later = answer(b"", b"Retry-After: 120", status=b"429 Slow down")
    async with running_proxy(later, options=retries(3)) as rig, rig.client() as client:
        got = await client.ask(request())

    assert (got.status, got.value(b"retry-after")) == (429, b"120")
    assert len(rig.upstream.requests) == 1


async def test_an_outage_is_not_answered_with_a_storm() -> None:
    """The budget of all requests bounds their repeats: a fifth of them and a small floor."""
    async with running_proxy(BUSY, options=retries(1)) as rig, rig.client() as client:
        for _ in range(30):
            await client.ask(request())

    assert 30 + 6 <= len(rig.upstream.requests) <= 30 + 10


async def test_a_pooled_connection_that_died_is_replaced() -> None:
    """An upstream that closed an idle connection in this very moment costs a GET nothing."""

    async def answer_then_die_on_the_next(asked: Asked) -> None:
        asked.writer.write(answer(b"first"))
        await asked.reader.readuntil(b"\r\n\r\n")
        asked.writer.close()

    async with (
        running_proxy(answer_then_die_on_the_next, answer(b"second")) as rig,
        rig.client() as client,
    ):
        first = await client.ask(request())
        second = await client.ask(request())

    assert (first.body, second.body) == (b"first", b"second")
    assert rig.upstream.connections == 2


async def fill_pool(rig: Rig, arrived: list[Asked], *, connections: int) -> None:
    """Have so many idle connections in the pool: none is answered before all are asked."""
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(rig.client()) for _ in range(connections)]
        for client in clients:
            await client.send(request())
        await until(lambda: len(arrived) == connections, within_s=10, what="all requests")
        for asked in arrived:
            asked.writer.write(answer(b"first"))
        for client in clients:
            await client.read_answer()
        await until(lambda: len(rig.completed) == connections, within_s=10, what="their ends")


def pooling(then: Callable[[Asked], Awaitable[None]], arrived: list[Asked]) -> Step:
    """Return a step for every connection: its first request is kept, its next ones are `then`."""

    async def step(asked: Asked) -> None:
        if asked.writer in {known.writer for known in arrived}:
            await then(asked)
        else:
            arrived.append(asked)

    return step


async def switch(asked: Asked) -> None:
    asked.writer.write(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n")


async def begin(asked: Asked) -> None:
    asked.writer.write(b"H")
    await asked.writer.drain()
    asked.writer.close()


async def write_a_large_header(asked: Asked) -> None:
    asked.writer.write(answer(b"ok", b"X-A: " + b"a" * 70_000))


UNUSABLE = {
    "switching": (switch, UpstreamCause.MALFORMED_ANSWER),
    "a large header": (write_a_large_header, UpstreamCause.MALFORMED_ANSWER),
    "one octet": (begin, UpstreamCause.CLOSED),
}


@pytest.mark.parametrize(("then", "cause"), UNUSABLE.values(), ids=UNUSABLE)
async def test_an_unusable_answer_on_a_pooled_connection_is_not_asked_for_again(
    then: Callable[[Asked], Awaitable[None]], cause: UpstreamCause
) -> None:
    """However many connections lie in the pool, an upstream that answered is asked once."""
    arrived: list[Asked] = []
    async with running_proxy(pooling(then, arrived)) as rig, rig.client() as client:
        await fill_pool(rig, arrived, connections=5)
        got = await client.ask(request())

    assert (got.status, got.value(b"sidecar-error")) == (502, b"upstream_unreachable")
    assert (len(rig.upstream.requests), rig.upstream.connections) == (6, 5)
    assert rig.completed[-1].cause is cause


async def test_an_unusable_answer_is_repeated_by_the_policy_alone() -> None:
    """With retries on, an answer that cannot be passed on is a failure like any other."""
    broken = answer(b"ok", b"X-A : 1")
    async with (
        running_proxy(broken, answer(b"fine"), options=retries(1)) as rig,
        rig.client() as client,
    ):
        got = await client.ask(request())

    assert (got.body, len(rig.upstream.requests)) == (b"fine", 2)
    assert rig.completed[0].cause is None


@pytest.mark.parametrize("is_served", [False, True], ids=["dead", "alive"])
async def test_a_get_on_a_dead_pooled_connection_is_sent_once_more_on_a_fresh_one(
    *, is_served: bool
) -> None:
    """Not on the next one of the pool, which may be as dead; and if that fails too, it is told."""
    arrived: list[Asked] = []
    is_filled = False

    async def step(asked: Asked) -> None:
        if not is_filled:
            arrived.append(asked)
        elif is_served and asked.writer not in {known.writer for known in arrived}:
            asked.writer.write(answer(b"fresh"))
        else:
            asked.writer.close()

    async with running_proxy(step) as rig, rig.client() as client:
        await fill_pool(rig, arrived, connections=5)
        is_filled = True
        got = await client.ask(request())

    assert (got.status, got.body == b"fresh") == ((200, True) if is_served else (502, False))
    assert (len(rig.upstream.requests), rig.upstream.connections) == (7, 6)
    assert rig.completed[-1].cause is (None if is_served else UpstreamCause.CLOSED)


async def test_a_post_on_a_dead_pooled_connection_is_not_sent_again() -> None:
    """It may have been carried out: the caller hears that there was no answer."""
    arrived: list[Asked] = []
    async with running_proxy(pooling(hang_up, arrived)) as rig, rig.client() as client:
        await fill_pool(rig, arrived, connections=3)
        got = await client.ask(request(b"Content-Length: 2", line=POST, body=b"hi"))

    assert (got.status, len(rig.upstream.requests)) == (502, 4)


async def test_a_dead_upstream_is_told_as_unreachable() -> None:
    """Nobody listens: 502 with the reason, and when to come again."""
    async with running_proxy(answer(), upstream_port=1) as rig, rig.client() as client:
        got = await client.ask(request())

    assert (got.status, got.value(b"sidecar-error")) == (502, b"upstream_unreachable")
    assert got.value(b"retry-after") == b"1"
    assert rig.observer.of(UpstreamAnswered) == []


async def test_a_silent_upstream_is_told_as_a_timeout() -> None:
    """Silence before the head: 504, and the class `timeout`."""

    async def stay_silent(asked: Asked) -> None:
        await asked.wait_for_close()

    async with (
        running_proxy(stay_silent, timeout_s=0.1, options=retries(3)) as rig,
        rig.client() as client,
    ):
        got = await client.ask(request())

    assert (got.status, got.value(b"sidecar-error")) == (504, b"upstream_timeout")
    assert len(rig.upstream.requests) == 1
    assert [event.upstream_class for event in rig.observer.of(UpstreamAnswered)] == [
        UpstreamClass.TIMEOUT
    ]


async def test_an_upstream_that_takes_no_body_is_told_as_a_timeout() -> None:
    """An upstream that never reads a large body does not hold its client for ever."""

    async def read_nothing(asked: Asked) -> None:
        asked.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await rig.proxy.drained()

    size = 30_000_000
    async with running_proxy(read_nothing, timeout_s=0.2) as rig, rig.client() as client:
        client.writer.write(request(b"Content-Length: %d" % size, line=POST, body=bytes(size)))
        got = await client.read_answer()

    assert (got.status, got.value(b"sidecar-error")) == (504, b"upstream_timeout")


async def test_silence_within_a_body_breaks_it() -> None:
    """Silence after the head cannot be told any more: the client's connection breaks."""

    async def stall(asked: Asked) -> None:
        asked.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
        await asked.wait_for_close()

    async with running_proxy(stall, timeout_s=0.1) as rig, rig.client() as client:
        await client.send(request())
        await client.read_head()
        await client.reader.readexactly(3)
        assert await client.is_closed_by_peer()

    assert rig.completed[0].outcome.value == "upstream_broke"
