"""Requests to the token service that are given up: what arrived is told, and the rest is reset."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from sidecar.domain.wire import Answered, Broken, NotSent, TokenReply
from tests.support.idp_calls import (
    BODY,
    REFRESH,
    Told,
    accept_request,
    listen,
    provider,
    raw_server,
    yes,
)
from tests.support.scripted_peer import Ending, PeerConnection, ScriptedPeer, answer, turns
from tests.support.tls import private_tls
from tests.support.wait import until


async def test_a_given_up_request_resets_the_connection_and_tells_what_came() -> None:
    """Cancelled with half an answer: the half is told, and the peer sees a reset."""
    told = Told()
    half = answer(BODY)[:-20]

    async def say_half(connection: PeerConnection) -> None:
        await connection.read_request()
        await connection.write(half)
        await connection.read_to_the_end()

    async with ScriptedPeer(say_half) as peer:
        sending = asyncio.ensure_future(
            provider(peer.url).send(REFRESH, before_send=yes, on_answer=told)
        )
        await until(
            lambda: bool(peer.connections and peer.connections[0].request),
            within_s=30,
            what="the request",
        )

        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending

        await until(lambda: peer.connections[0].ending is not None, within_s=30, what="the end")
        assert peer.connections[0].ending is Ending.RESET
    assert len(told.replies) == 1
    assert isinstance(told.replies[0], Broken)
    assert BODY.startswith(told.replies[0].body)


@pytest.mark.parametrize("cancels", [1, 2])
async def test_bytes_that_the_kernel_holds_are_read_before_giving_up(cancels: int) -> None:
    """An answer that came in the very moment of the cancellation is not thrown away."""
    told = Told()
    with raw_server() as (listener, url):
        sending = asyncio.ensure_future(
            provider(url).send(REFRESH, before_send=yes, on_answer=told)
        )
        with await accept_request(listener) as connection:
            # No await between the three: the loop has not looked at its sockets yet.
            connection.send(answer(BODY))
            for _ in range(cancels):
                sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending

    assert told.replies == [Answered(status=200, body=BODY, content_type="application/json")]


async def test_a_second_cancellation_during_the_last_read_still_tells_first() -> None:
    """Impatience costs at most what the kernel holds; the caller knows when it is let go."""
    told = Told()
    known_at_the_end: list[TokenReply] = []

    async def give_up_with(url: str) -> None:
        try:
            await provider(url).send(REFRESH, before_send=yes, on_answer=told)
        finally:
            known_at_the_end.extend(told.replies)

    with raw_server() as (listener, url):
        sending = asyncio.ensure_future(give_up_with(url))
        with await accept_request(listener) as connection:
            sending.cancel()
            await turns(1)
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            with pytest.raises(ConnectionResetError):
                await asyncio.get_running_loop().sock_recv(connection, 1)

    assert known_at_the_end == told.replies == [Broken()]


async def test_giving_up_before_the_first_byte_sends_nothing() -> None:
    """Cancelled while the claim is being marked: told as not sent, and the marking is ended."""
    told = Told()
    ended: list[bool] = []

    async def never() -> bool:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)
        return True

    async with ScriptedPeer(listen) as peer:
        sending = asyncio.ensure_future(
            provider(peer.url).send(REFRESH, before_send=never, on_answer=told)
        )
        await until(lambda: len(peer.connections) == 1, within_s=30, what="the connection")

        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending

        await until(lambda: peer.connections[0].ending is not None, within_s=30, what="the end")
        assert peer.connections[0].received == b""
    assert told.replies == [NotSent()]
    assert ended == [True]


async def test_a_marking_that_will_not_be_cancelled_still_sends_nothing() -> None:
    """Once it was told that nothing was sent, nothing is, whatever the caller says later."""
    told = Told()
    asked = asyncio.Event()

    async def stubborn() -> bool:
        asked.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return True

    async with ScriptedPeer(listen) as peer:
        sending = asyncio.ensure_future(
            provider(peer.url).send(REFRESH, before_send=stubborn, on_answer=told)
        )
        await asked.wait()

        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending

        await until(lambda: peer.connections[0].ending is not None, within_s=30, what="the end")
        assert peer.connections[0].received == b""
    assert told.replies == [NotSent()]


async def test_giving_up_while_connecting_sends_nothing() -> None:
    """There is no connection yet, so there is nothing to read."""
    told = Told()

    async with ScriptedPeer(listen) as peer:
        url = peer.url.replace("http:", "https:")
        sending = asyncio.ensure_future(
            provider(url).send(REFRESH, before_send=yes, on_answer=told)
        )
        await until(
            lambda: bool(peer.connections and peer.connections[0].ending is None),
            within_s=30,
            what="the connection",
        )

        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending

    assert told.replies == [NotSent()]


async def test_a_given_up_request_over_tls_is_reset_too(tmp_path: Path) -> None:
    """TLS wants to say goodbye; a claim that is given up does not wait for that."""
    told = Told()
    tls = private_tls(tmp_path)

    async def stay_silent(connection: PeerConnection) -> None:
        await connection.read_request()
        await connection.read_to_the_end()

    async with ScriptedPeer(stay_silent, tls=tls.server) as peer:
        sending = asyncio.ensure_future(
            provider(peer.url, ca_file=tls.ca_file).send(REFRESH, before_send=yes, on_answer=told)
        )
        await until(
            lambda: bool(peer.connections and peer.connections[0].request),
            within_s=30,
            what="the request",
        )

        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending

        await until(lambda: peer.connections[0].ending is not None, within_s=30, what="the end")
        assert peer.connections[0].ending is Ending.RESET
    assert told.replies == [Broken()]
