"""The token service's client and time: pauses, silence, and the step an answer is told in."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

import pytest

from sidecar.domain.wire import Answered, TokenReply
from tests.support.idp_calls import (
    BODY,
    REFRESH,
    accept_request,
    provider,
    raw_server,
    send,
    yes,
)
from tests.support.scripted_peer import answer, turns


class LeapingLoop(asyncio.SelectorEventLoop):
    """A loop whose process can be stopped for an hour at once, and which counts its passes."""

    leap_s = 0.0
    passes = 0

    def time(self) -> float:
        return super().time() + self.leap_s

    def _run_once(self) -> None:
        self.passes += 1
        super()._run_once()  # type: ignore[misc]  # asyncio's own step, in no stub


def run_leaping(scenario: Coroutine[object, object, None]) -> None:
    with asyncio.Runner(loop_factory=LeapingLoop) as runner:
        runner.run(scenario)


def leaping_loop() -> LeapingLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, LeapingLoop)
    return loop


@pytest.mark.parametrize("said_before", [b"", b"HTTP/1.1 200 OK\r\n", answer(BODY)[:-30]])
def test_a_pause_of_an_hour_loses_no_answer(said_before: bytes) -> None:
    """Stopped while the answer arrives: every timer is due on waking, and none may win."""

    async def scenario() -> None:
        with raw_server() as (listener, url):
            sending = asyncio.ensure_future(send(provider(url)))
            with await accept_request(listener) as connection:
                connection.send(said_before)
                await turns(10)

                connection.send(answer(BODY)[len(said_before) :])
                leaping_loop().leap_s += 3600
                reply = await sending

        assert reply == Answered(status=200, body=BODY, content_type="application/json")

    run_leaping(scenario())


def test_silence_for_a_day_ends_nothing() -> None:
    """No timer runs once the request was sent; the caller decides when to give up."""

    async def scenario() -> None:
        with raw_server() as (listener, url):
            sending = asyncio.ensure_future(send(provider(url)))
            with await accept_request(listener) as connection:
                for _ in range(24):
                    leaping_loop().leap_s += 3600
                    await turns(10)
                assert not sending.done()

                connection.send(answer(BODY))
                reply = await sending

        assert isinstance(reply, Answered)

    run_leaping(scenario())


@pytest.mark.parametrize("pieces", [1, 2])
def test_the_answer_is_told_in_the_step_that_reads_its_last_byte(pieces: int) -> None:
    """Nothing is awaited in between: the pass after the one that took it from the kernel."""

    async def scenario() -> None:
        loop = leaping_loop()
        told_in: list[int] = []

        def on_answer(reply: TokenReply) -> None:
            assert isinstance(reply, Answered)
            told_in.append(loop.passes)

        with raw_server() as (listener, url):
            sending = asyncio.ensure_future(
                provider(url).send(REFRESH, before_send=yes, on_answer=on_answer)
            )
            with await accept_request(listener) as connection:
                whole = answer(BODY)
                if pieces > 1:
                    connection.send(whole[:-10])
                    await turns(10)
                    whole = whole[-10:]
                connection.send(whole)
                sent_in = loop.passes
                await sending

        # Sent in one pass, taken from the kernel in the next, told in the one after it.
        assert told_in == [sent_in + 2]

    run_leaping(scenario())
