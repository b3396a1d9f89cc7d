from __future__ import annotations

import asyncio
from dataclasses import replace

from sidecar.domain.events import RequestOutcome, WorkFailed
from sidecar.domain.record import GrantKey
from sidecar.domain.tokens import TokenFound, TokenLookup
from sidecar.service.patience import Patience
from tests.support.proxy_rig import Rig, ScriptedSource, running_proxy, token
from tests.support.raw_http import Asked, answer, request
from tests.support.wait import until

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n"


async def never_answer(asked: Asked) -> None:
    await asked.wait_for_close()


async def send_a_lot(asked: Asked) -> None:
    asked.writer.write(HEAD)
    for _ in range(1000):
        asked.writer.write(b"x" * 100_000)
        await asked.writer.drain()


async def expect_client_gone(rig: Rig) -> None:
    await until(lambda: bool(rig.completed), within_s=30, what="the request to end")
    assert rig.completed[0].outcome is RequestOutcome.CLIENT_GONE
    assert rig.proxy.in_flight == 0
    await until(
        lambda: rig.upstream.closed_connections == rig.upstream.connections,
        within_s=30,
        what="the upstream's connection to be closed",
    )
    assert rig.observer.of(WorkFailed) == []


async def test_a_client_that_leaves_before_the_answer_ends_the_exchange() -> None:
    """An upstream is not kept busy for a client that is gone; 499 is told."""
    async with running_proxy(never_answer) as rig:
        async with rig.client() as client:
            await client.send(request())
            await until(lambda: bool(rig.upstream.requests), within_s=30, what="the request")
            client.abort()
        await expect_client_gone(rig)

    assert rig.completed[0].status == 499


async def test_a_client_that_leaves_within_the_answer_ends_the_exchange() -> None:
    """A stream to nobody stops at once, at the upstream too."""
    async with running_proxy(send_a_lot) as rig:
        async with rig.client() as client:
            await client.send(request())
            await client.read_head()
            client.abort()
        await expect_client_gone(rig)

    assert rig.completed[0].status == 200


async def test_a_client_that_leaves_within_its_body_ends_the_exchange() -> None:
    """Half a body is never taken for a whole one: the upstream sees its connection break."""
    broken: list[bool] = []

    async def read_all(asked: Asked) -> None:
        try:
            await asked.read_body()
        except (asyncio.IncompleteReadError, ConnectionError):
            broken.append(True)
            raise

    line = b"POST /payments/v2/mikomo HTTP/1.1"
    async with running_proxy(read_all) as rig:
        async with rig.client() as client:
            await client.send(request(b"Content-Length: 1000000", line=line, body=b"x" * 100_000))
            await until(lambda: bool(rig.upstream.requests), within_s=30, what="the request")
            client.abort()
        await expect_client_gone(rig)

    assert broken == [True]


async def test_a_client_that_leaves_before_its_small_body_is_whole_asks_nothing() -> None:
    """A body that is kept is sent whole or not at all."""
    line = b"POST /payments/v2/mikomo HTTP/1.1"
    async with running_proxy(answer()) as rig:
        async with rig.client() as client:
            await client.send(request(b"Content-Length: 100", line=line, body=b"x"))
            await until(lambda: rig.proxy.in_flight == 1, within_s=30, what="the request to start")
            client.abort()
        await expect_client_gone(rig)

    assert rig.upstream.requests == []


async def test_a_client_that_goes_silent_within_its_body_is_let_go() -> None:
    """A client that stalls does not hold its place for ever."""
    line = b"POST /payments/v2/mikomo HTTP/1.1"
    async with (
        running_proxy(answer(), options=lambda it: replace(it, client_silence_s=0.05)) as rig,
        rig.client() as client,
    ):
        await client.send(request(b"Content-Length: 100", line=line, body=b"x"))
        assert await client.is_closed_by_peer()
        await expect_client_gone(rig)


async def test_a_client_that_does_not_read_is_let_go() -> None:
    """A client that never reads its answer does not pin the upstream for ever."""
    async with (
        running_proxy(send_a_lot, options=lambda it: replace(it, client_silence_s=0.05)) as rig,
        rig.client() as client,
    ):
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await client.send(request())
        await expect_client_gone(rig)


async def test_a_client_that_leaves_during_a_look_up_leaves_it_alone() -> None:
    """Waiting for a token ends with the client; nothing is asked of the upstream."""

    class Waiting(ScriptedSource):
        async def token_for(self, key: GrantKey, *, patience: Patience) -> TokenLookup:
            del patience
            self.keys.append(key)
            await asyncio.Event().wait()
            raise AssertionError

        def peek(self, key: GrantKey) -> TokenFound | None:
            del key
            return None

    source = Waiting(found=token())
    async with running_proxy(answer(), source=source) as rig:
        async with rig.client() as client:
            await client.send(request())
            await until(lambda: bool(source.keys), within_s=30, what="the look-up")
            client.abort()
        await expect_client_gone(rig)

    assert rig.upstream.requests == []
