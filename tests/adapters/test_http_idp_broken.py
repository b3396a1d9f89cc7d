"""Answers that break, stall or are given up: every byte that arrived reaches the caller."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import socket
import ssl
from collections.abc import Awaitable, Callable, Coroutine, Generator
from pathlib import Path
from typing import Final, final

import pytest
import trustme

from sidecar.adapters.answer_framing import read_torn
from sidecar.adapters.http_idp import HttpIdentityProvider
from sidecar.domain.failure import Operation
from sidecar.domain.secret import Secret
from sidecar.domain.wire import Answered, Broken, NotSent, TokenReply, TokenRequest
from tests.support.faultline import Direction, Fault, Faultline
from tests.support.scripted_peer import Ending, PeerConnection, ScriptedPeer, answer, turns
from tests.support.wait import until

BODY: Final = b'{"refresh_token": "next", "id_token": "a.b.c", "expires_in": 900}'
CHUNKED: Final = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
REQUEST: Final = TokenRequest(
    operation=Operation.REFRESH,
    path="/token",
    form=(("grant_type", "refresh_token"), ("refresh_token", Secret("sent"))),
)


async def yes() -> bool:
    return True


@final
class Told:
    """What `on_answer` was called with."""

    def __init__(self) -> None:
        self.replies: list[TokenReply] = []

    def __call__(self, reply: TokenReply) -> None:
        self.replies.append(reply)


def provider(url: str, ca_file: Path | None = None) -> HttpIdentityProvider:
    return HttpIdentityProvider(idp_url=url, connect_timeout_s=5, ca_file=ca_file)


async def send(url: str) -> TokenReply:
    told = Told()
    reply = await provider(url).send(REQUEST, before_send=yes, on_answer=told)
    assert told.replies == [reply]
    return reply


def replying(data: bytes, end: Callable[[PeerConnection], None]) -> Script:
    """Return a script that reads the request, says `data` and ends the connection."""

    async def script(connection: PeerConnection) -> None:
        await connection.read_request()
        await connection.write(data)
        end(connection)

    return script


Script = Callable[[PeerConnection], Awaitable[None]]


async def answer_well(connection: PeerConnection) -> None:
    await connection.read_request()
    await connection.write(answer(BODY))
    await connection.read_to_the_end()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", Broken()),
        (b"HTTP/1.1 2", Broken()),
        (b"HTTP/1.1 200 OK\r\nContent-Ty", Broken(status=200)),
        (answer(BODY)[:-20], Broken(status=200, body=BODY[:-20])),
        (CHUNKED + b"10\r\n" + BODY[:12], Broken(status=200, body=BODY[:12])),
        (CHUNKED + b"10\r\n" + BODY[:16] + b"\r\n1", Broken(status=200, body=BODY[:16])),
        (CHUNKED + b"10\r\n" + BODY[:16] + b"\r\nzz", Broken(status=200, body=BODY[:16])),
        (
            CHUNKED + b"10\r\n" + BODY[:16] + b"\r\nno size\r\n" + BODY[16:],
            Broken(status=200, body=BODY[:16] + b"no size\r\n" + BODY[16:]),
        ),
        (b"HTTP/1.1 100 Continue\r\n\r\n", Broken()),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + answer(BODY)[:-1], Broken(status=200, body=BODY[:-1])),
        (b"SSH-2.0-OpenSSH_9.7\r\n\r\n", Broken()),
    ],
    ids=[
        "nothing",
        "half a status line",
        "half the headers",
        "half a body",
        "half a chunk",
        "half a chunk size",
        "a garbled chunk size",
        "a garbled chunk",
        "an interim answer",
        "half a body after an interim answer",
        "another protocol",
    ],
)
@pytest.mark.parametrize("end", [PeerConnection.close, PeerConnection.reset])
async def test_what_arrived_of_a_broken_answer_is_told(
    data: bytes, expected: Broken, end: Callable[[PeerConnection], None]
) -> None:
    """Wherever the answer ends and however: its status and the body so far."""
    async with ScriptedPeer(replying(data, end)) as peer:
        reply = await send(peer.url)

    # A reset may overtake bytes within the kernel of the peer; what is told is a beginning.
    if end is PeerConnection.reset:
        assert isinstance(reply, Broken)
        assert reply.status in {None, expected.status}
        assert expected.body.startswith(reply.body)
    else:
        assert reply == expected


def test_a_torn_answer_is_read_wherever_it_ends() -> None:
    """Cut at every byte offset: what is told only grows and is always the body's beginning."""
    size = len(BODY) // 3
    chunks = (BODY[:size], BODY[size : 2 * size], BODY[2 * size :])
    whole = (
        CHUNKED + b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in chunks) + b"0\r\n\r\n"
    )
    told = b""

    for cut in range(len(whole) + 1):
        torn = read_torn(whole[:cut])

        assert BODY.startswith(torn.body)
        assert len(torn.body) >= len(told)
        assert (torn.status == 200) is (cut > len("HTTP/1.1 200"))
        told = torn.body
    assert told == BODY


def test_a_torn_answer_that_was_packed_is_unpacked_as_far_as_it_goes() -> None:
    """The refresh token in the first half of a packed answer is as good as any."""
    body = b"".join(b'{"n%d": "%x"}' % (number, number**9) for number in range(400))
    packed = gzip.compress(body)
    head = b"HTTP/1.1 200 OK\r\ncontent-encoding: GZip\r\n\r\n"

    torn = read_torn(head + packed[: len(packed) // 2])

    assert len(torn.body) > len(body) // 4
    assert body.startswith(torn.body)
    assert read_torn(head + b"not packed").body == b"not packed"


@pytest.mark.parametrize("cut_after", [0, 1, 60, len(answer(BODY)) - 1])
@pytest.mark.parametrize("is_reset", [False, True])
async def test_a_cut_line_is_a_broken_answer(
    cut_after: int,
    is_reset: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """Whatever lies between may fail: the caller learns that its request may have arrived."""
    async with ScriptedPeer(answer_well) as peer, Faultline(port=peer.port) as line:
        line.fault = Fault(reply=Direction(cut_after=cut_after), is_reset=is_reset)

        reply = await send(f"http://127.0.0.1:{line.port}")

        assert b"refresh_token=sent" in peer.connections[0].received
    assert isinstance(reply, Broken)
    assert BODY.startswith(reply.body)


async def test_a_request_that_is_cut_on_its_way_is_broken() -> None:
    """Some of it left, so it is not for this side to say that nothing did."""
    async with ScriptedPeer(answer_well) as peer, Faultline(port=peer.port) as line:
        line.fault = Fault(request=Direction(cut_after=40), is_reset=True)

        reply = await send(f"http://127.0.0.1:{line.port}")

    assert reply == Broken()


async def test_an_answer_that_the_line_holds_back_is_awaited() -> None:
    """A slow line is no broken one."""
    async with ScriptedPeer(answer_well) as peer, Faultline(port=peer.port) as line:
        gate = asyncio.Event()
        line.fault = Fault(reply=Direction(gate=gate))
        sending = asyncio.ensure_future(send(f"http://127.0.0.1:{line.port}"))
        await until(
            lambda: bool(peer.connections and peer.connections[0].request),
            within_s=5,
            what="the request",
        )
        gate.set()

        reply = await sending

    assert isinstance(reply, Answered)
    assert reply.body == BODY


async def test_a_line_that_refuses_after_it_accepted_gets_no_second_request() -> None:
    """One request, one connection, whatever becomes of it."""
    async with ScriptedPeer(answer_well) as peer, Faultline(port=peer.port) as line:
        line.fault = Fault(is_refusing=True)

        reply = await send(f"http://127.0.0.1:{line.port}")

        assert line.accepted == 1
        assert peer.connections == []
    assert isinstance(reply, Broken | NotSent)


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
            provider(peer.url).send(REQUEST, before_send=yes, on_answer=told)
        )
        await until(
            lambda: bool(peer.connections and peer.connections[0].request),
            within_s=5,
            what="the request",
        )

        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending

        await until(lambda: peer.connections[0].ending is not None, within_s=5, what="the end")
        assert peer.connections[0].ending is Ending.RESET
    assert len(told.replies) == 1
    assert isinstance(told.replies[0], Broken)
    assert BODY.startswith(told.replies[0].body)


@contextlib.contextmanager
def raw_server() -> Generator[tuple[socket.socket, str]]:
    """A listening socket whose other side the test plays itself, without the loop."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.setblocking(False)  # noqa: FBT003 - the socket API's
        yield listener, f"http://127.0.0.1:{listener.getsockname()[1]}"


async def accept_request(listener: socket.socket) -> socket.socket:
    loop = asyncio.get_running_loop()
    connection, _ = await loop.sock_accept(listener)
    received = b""
    while not received.endswith(b"refresh_token=sent"):
        received += await loop.sock_recv(connection, 65536)
    return connection


@pytest.mark.parametrize("cancels", [1, 2])
async def test_bytes_that_the_kernel_holds_are_read_before_giving_up(cancels: int) -> None:
    """An answer that came in the very moment of the cancellation is not thrown away."""
    told = Told()
    with raw_server() as (listener, url):
        sending = asyncio.ensure_future(
            provider(url).send(REQUEST, before_send=yes, on_answer=told)
        )
        with await accept_request(listener) as connection:
            # No await between the three: the loop has not looked at its sockets yet.
            connection.send(answer(BODY))
            for _ in range(cancels):
                sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending

    assert told.replies == [Answered(status=200, body=BODY, content_type="application/json")]


async def test_a_second_cancellation_during_the_last_read_still_tells() -> None:
    """Impatience costs at most what the kernel holds, never what was read."""
    told = Told()
    with raw_server() as (listener, url):
        sending = asyncio.ensure_future(
            provider(url).send(REQUEST, before_send=yes, on_answer=told)
        )
        with await accept_request(listener) as connection:
            sending.cancel()
            await turns(1)
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            with pytest.raises(ConnectionResetError):
                await asyncio.get_running_loop().sock_recv(connection, 1)

    assert told.replies == [Broken()]


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

    async def listen(connection: PeerConnection) -> None:
        await connection.read_to_the_end()

    async with ScriptedPeer(listen) as peer:
        sending = asyncio.ensure_future(
            provider(peer.url).send(REQUEST, before_send=never, on_answer=told)
        )
        await until(lambda: len(peer.connections) == 1, within_s=5, what="the connection")

        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending

        await until(lambda: peer.connections[0].ending is not None, within_s=5, what="the end")
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

    async def listen(connection: PeerConnection) -> None:
        await connection.read_to_the_end()

    async with ScriptedPeer(listen) as peer:
        sending = asyncio.ensure_future(
            provider(peer.url).send(REQUEST, before_send=stubborn, on_answer=told)
        )
        await asked.wait()

        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending

        await until(lambda: peer.connections[0].ending is not None, within_s=5, what="the end")
        assert peer.connections[0].received == b""
    assert told.replies == [NotSent()]


async def test_giving_up_while_connecting_sends_nothing() -> None:
    """There is no connection yet, so there is nothing to read."""
    told = Told()

    async def listen(connection: PeerConnection) -> None:
        await connection.read_to_the_end()

    async with ScriptedPeer(listen) as peer:
        url = peer.url.replace("http:", "https:")
        sending = asyncio.ensure_future(
            provider(url).send(REQUEST, before_send=yes, on_answer=told)
        )
        await until(
            lambda: bool(peer.connections and peer.connections[0].ending is None),
            within_s=5,
            what="the connection",
        )

        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending

    assert told.replies == [NotSent()]


async def test_a_given_up_request_over_tls_is_reset_too(tmp_path: Path) -> None:
    """TLS wants to say goodbye; a claim that is given up does not wait for that."""
    told = Told()
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    server_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(  # pyright: ignore[reportUnknownMemberType]
        server_tls  # (its signature names OpenSSL's own type as well)
    )

    async def stay_silent(connection: PeerConnection) -> None:
        await connection.read_request()
        await connection.read_to_the_end()

    async with ScriptedPeer(stay_silent, tls=server_tls) as peer:
        sending = asyncio.ensure_future(
            provider(peer.url, tmp_path / "ca.pem").send(REQUEST, before_send=yes, on_answer=told)
        )
        await until(
            lambda: bool(peer.connections and peer.connections[0].request),
            within_s=5,
            what="the request",
        )

        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending

        await until(lambda: peer.connections[0].ending is not None, within_s=5, what="the end")
        assert peer.connections[0].ending is Ending.RESET
    assert told.replies == [Broken()]


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
            sending = asyncio.ensure_future(send(url))
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
            sending = asyncio.ensure_future(send(url))
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
                provider(url).send(REQUEST, before_send=yes, on_answer=on_answer)
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
