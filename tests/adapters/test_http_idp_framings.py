"""Every framing, cut and end of an answer, on both event loops, with and without TLS."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import uvloop

from sidecar.adapters.http_idp import HttpIdentityProvider
from sidecar.domain.failure import Operation
from sidecar.domain.token_wire import PairRead, Reading, read_reply
from sidecar.domain.tokens import TokenFailure
from sidecar.domain.wire import Answered, Broken, TokenReply
from tests.support.framings import PAIR, TOKEN, Case, Cut, End, Framing, cases
from tests.support.idp_calls import REFRESH, provider, send
from tests.support.scripted_peer import Ending, PeerConnection, ScriptedPeer, turns
from tests.support.tls import private_tls
from tests.support.wait import until

Loops = Callable[[], asyncio.AbstractEventLoop]
LOOPS: dict[str, Loops] = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
AT_ONCE = 20


async def play(connection: PeerConnection) -> None:
    """Script: answer as the case wants it that the path names."""
    request = await connection.read_request()
    name = request.split(b" ")[1].decode().removeprefix("/")
    case = CASES[name]
    await connection.write(case.data)
    if case.end is End.FIN:
        connection.close()
    else:
        await turns(3)  # a reset throws away what the kernel has not delivered yet
        connection.reset()


CASES = {case.name: case for case in cases()}


async def replies(idp: HttpIdentityProvider, wanted: list[Case]) -> dict[str, TokenReply]:
    """Return what came of each case; a few at a time."""
    places = asyncio.Semaphore(AT_ONCE)

    async def one(case: Case) -> tuple[str, TokenReply]:
        async with places:
            return case.name, await send(idp, request=replace(REFRESH, path=f"/{case.name}"))

    return dict(await asyncio.gather(*(one(case) for case in wanted)))


def meaning(operation: Operation, reply: TokenReply) -> Reading:
    """Return what a reply means, apart from whether it was saved from a torn answer."""
    reading = read_reply(operation, reply)
    return replace(reading, is_salvaged=False) if isinstance(reading, PairRead) else reading


@pytest.mark.parametrize("is_tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("loop", LOOPS)
def test_every_framing_means_what_the_same_answer_with_a_length_means(
    loop: str,
    is_tls: bool,  # noqa: FBT001 - a parameter of the test
    tmp_path: Path,
) -> None:
    """A whole answer is whole, a cut one keeps its token where that arrived, and nothing raises."""
    tls = private_tls(tmp_path) if is_tls else None

    async def ask_all() -> dict[str, TokenReply]:
        async with ScriptedPeer(play, tls=tls.server if tls else None) as peer:
            idp = provider(peer.url, ca_file=tls.ca_file if tls else None)
            return await replies(idp, list(CASES.values()))

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        came = runner.run(ask_all())

    wrong = {
        f"{name} {operation}": came[name]
        for name, case in CASES.items()
        for operation in Operation
        if not is_right(case, came[name], operation)
    }
    assert wrong == {}


def is_right(case: Case, reply: TokenReply, operation: Operation) -> bool:
    """Whether a case came out as it must for this operation."""
    if case.is_whole:
        plain = replace(case, framing=Framing.LENGTH, cut=Cut.WHOLE, end=End.FIN)
        expected = Answered(status=case.status, body=plain.body, content_type="application/json")
        return isinstance(reply, Answered) and meaning(operation, reply) == meaning(
            operation, expected
        )
    reading = read_reply(operation, reply)
    if case.status == 200 and case.cut is Cut.AFTER_TOKEN and operation is not Operation.REVOKE:
        return isinstance(reading, PairRead) and reading.pair.refresh_token.reveal() == TOKEN
    is_empty = case.framing is Framing.CLOSE and case.cut is Cut.AFTER_HEAD and case.end is End.FIN
    # An empty body that the connection ends is one like another; a revocation wants no more.
    return isinstance(reply, Broken) or isinstance(reading, TokenFailure) or is_empty


def gzipped() -> bytes:
    return gzip.compress(PAIR)


OK = b"HTTP/1.1 200 OK\r\n"
HUGE = b"Content-Length: 18446744073709551615\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(PAIR)
ODD_BUT_WHOLE = {
    "a length that nothing can have": OK + HUGE + b"\r\n" + PAIR,
    "the same length twice": OK + LENGTH + LENGTH + b"\r\n" + PAIR,
    "the same length twice in one line": OK
    + b"Content-Length: %d, %d\r\n\r\n" % ((len(PAIR),) * 2)
    + PAIR,
    "two lengths": OK + LENGTH + b"Content-Length: 5\r\n\r\n" + PAIR,
    "a length that is no number": OK + b"Content-Length: +1e3\r\n\r\n" + PAIR,
    "a blank before the colon": OK + b"Content-Length : %d\r\n\r\n" % len(PAIR) + PAIR,
    "a length that is too short": OK + b"Content-Length : 5\r\n\r\n" + PAIR,
    "a length that is too long": OK + b"Content-Length: %d\r\n\r\n" % (len(PAIR) + 9) + PAIR,
    "a length of nothing": OK + b"Content-Length: 0\r\n\r\n" + PAIR,
    "chunked with a tab": OK
    + b"Transfer-Encoding: chunked\t\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(PAIR), PAIR),
    "chunked beside a length": OK
    + b"Content-Length: 3\r\nTransfer-Encoding: Chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n"
    % (len(PAIR), PAIR),
    "chunked in name only": OK + b"Transfer-Encoding: chunked\r\n\r\n" + PAIR,
    "a chunk of a huge size": OK + b"Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFF\r\n" + PAIR,
    "a chunk size with zeros before it": OK
    + b"Transfer-Encoding: chunked\r\n\r\n%020x\r\n%s\r\n0\r\n\r\n" % (len(PAIR), PAIR),
    "no last chunk": OK + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n" % (len(PAIR), PAIR),
    "a coding that changes nothing": OK
    + b"Transfer-Encoding: identity\r\n"
    + LENGTH
    + b"\r\n"
    + PAIR,
    "a coding that nobody knows": OK + b"Transfer-Encoding: x-odd\r\n\r\n" + PAIR,
    "packed on the way": OK
    + b"Transfer-Encoding: gzip, chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n"
    % (len(gzipped()), gzipped()),
    "packed until the end": OK + b"Content-Encoding: gzip\r\n\r\n" + gzipped(),
    "NUL in the reason": b"HTTP/1.1 200 O\0K\r\n" + LENGTH + b"\r\n" + PAIR,
    "NUL in a header": OK + b"X: a\0b\r\n" + LENGTH + b"\r\n" + PAIR,
    "no reason": b"HTTP/1.1 200\r\n" + LENGTH + b"\r\n" + PAIR,
    "a line without a colon": OK + b"nonsense\r\n" + LENGTH + b"\r\n" + PAIR,
    "a folded line": OK + b"X: a\r\n b\r\nContent-Length:\r\n %d\r\n\r\n" % len(PAIR) + PAIR,
    "bare line feeds": (OK + LENGTH).replace(b"\r", b"") + b"\n" + PAIR,
    "empty lines first": b"\r\n\r\n" + OK + LENGTH + b"\r\n" + PAIR,
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\n\r\n" + PAIR,
    "another version": b"HTTP/2 200\r\n\r\n" + PAIR,
    "a header of 70 KB": OK + b"X: %s\r\n" % (b"a" * 70_000) + LENGTH + b"\r\n" + PAIR,
    "interim answers": b"HTTP/1.1 100 Continue\r\n\r\n" * 50 + OK + LENGTH + b"\r\n" + PAIR,
    "another protocol, which is none": b"HTTP/1.1 101 Switching\r\n\r\n"
    + OK
    + LENGTH
    + b"\r\n"
    + PAIR,
    "a 204 with a body": b"HTTP/1.1 204 No Content\r\n\r\n" + PAIR,
    "a page feed before the object": OK + LENGTH + b"\r\n" + b"\xef\xbb\xbf" + PAIR[:-3],
    "no head at all": PAIR,
    "a garbled status": b"HTTP/1.1 2OO OK\r\n\r\n" + PAIR,
}


@pytest.mark.parametrize("loop", LOOPS)
def test_no_oddity_of_an_answer_costs_its_pair(loop: str) -> None:
    """What a strict parser refuses as a whole may hold the only live token in the world."""
    names = list(ODD_BUT_WHOLE)

    async def say(connection: PeerConnection) -> None:
        request = await connection.read_request()
        name = names[int(request.split(b" ")[1][1:])]
        await connection.write(ODD_BUT_WHOLE[name])
        connection.close()

    async def ask_all() -> dict[str, TokenReply]:
        async with ScriptedPeer(say) as peer:
            idp = provider(peer.url)
            asked = [
                send(idp, request=replace(REFRESH, path=f"/{number}"))
                for number in range(len(names))
            ]
            return dict(zip(names, await asyncio.gather(*asked), strict=True))

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        came = runner.run(ask_all())

    assert [name for name in names if token_of(came[name]) != TOKEN] == []
    headless = {"no head at all", "a garbled status"}
    assert {name for name in names if not isinstance(came[name], Answered)} <= headless


def token_of(reply: TokenReply) -> str:
    reading = read_reply(Operation.REFRESH, reply)
    return reading.pair.refresh_token.reveal() if isinstance(reading, PairRead) else ""


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("head", [OK + HUGE, OK], ids=["an impossible length", "no length"])
def test_an_object_that_is_complete_ends_an_answer_without_an_end(loop: str, head: bytes) -> None:
    """A peer that never closes keeps no pair from its grant."""

    async def say(connection: PeerConnection) -> None:
        await connection.read_request()
        await connection.write(head + b"\r\n" + PAIR[:40])
        await turns(5)
        await connection.write(PAIR[40:])
        await connection.read_to_the_end()

    async def ask() -> TokenReply:
        async with ScriptedPeer(say) as peer:
            return await send(provider(peer.url))

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        assert token_of(runner.run(ask())) == TOKEN


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(
    "case", ["close-whole-fin-200", "close-whole-fin-400", "length-whole-fin-503"]
)
def test_tls_without_its_goodbye_ends_an_answer(loop: str, case: str, tmp_path: Path) -> None:
    """Many a server closes the socket below TLS: what is complete is complete."""
    tls = private_tls(tmp_path)

    async def say(connection: PeerConnection) -> None:
        await connection.read_request()
        await connection.write(CASES[case].data)
        connection.close_below_tls()
        await connection.read_to_the_end()

    async def ask() -> TokenReply:
        async with ScriptedPeer(say, tls=tls.server) as peer:
            return await send(provider(peer.url, ca_file=tls.ca_file))

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        assert runner.run(ask()) == Answered(
            status=CASES[case].status, body=CASES[case].body, content_type="application/json"
        )


@pytest.mark.parametrize("loop", LOOPS)
def test_an_answer_to_half_a_request_is_an_answer(loop: str) -> None:
    """A gateway may refuse, and reset, before it has read what it refuses."""

    async def refuse(connection: PeerConnection) -> None:
        await connection.write(CASES["close-whole-fin-429"].data)
        connection.close()  # with the request unread, the kernel makes a reset of it

    async def say(connection: PeerConnection) -> None:
        await until_asked.wait()
        await refuse(connection)

    until_asked = asyncio.Event()

    async def ask() -> TokenReply:
        async with ScriptedPeer(say) as peer:
            sending = asyncio.ensure_future(send(provider(peer.url), before_send=soon))
            return await sending

    async def soon() -> bool:
        asyncio.get_running_loop().call_later(0.05, until_asked.set)
        return True

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        reply = runner.run(ask())

    assert isinstance(reply, Answered)
    assert reply.status == 429


@pytest.mark.parametrize("loop", LOOPS)
def test_interim_answers_without_end_are_given_up(loop: str) -> None:
    """They fill no memory and hold no claim for ever: after a while the connection is reset."""

    async def flood(connection: PeerConnection) -> None:
        await connection.read_request()
        try:
            while True:
                await connection.write(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)
        except ConnectionResetError:
            connection.ending = Ending.RESET

    async def ask() -> TokenReply:
        async with ScriptedPeer(flood) as peer:
            reply = await send(provider(peer.url))
            await until(
                lambda: peer.connections[0].ending is not None, within_s=30, what="the reset"
            )
            return reply

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        assert runner.run(ask()) == Broken()
