"""Answers that break: every byte that arrived reaches the caller."""

from __future__ import annotations

import asyncio
import gzip
import socket
from collections.abc import Callable
from typing import Final

import pytest

from sidecar.adapters.answer_reader import read_torn
from sidecar.domain.wire import Answered, Broken, NotSent
from tests.support.faultline import Direction, Fault, Faultline
from tests.support.idp_calls import BODY, accept_request, answer_well, provider, raw_server, send
from tests.support.scripted_peer import PeerConnection, Script, ScriptedPeer, answer
from tests.support.wait import until

CHUNKED: Final = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def replying(data: bytes, end: Callable[[PeerConnection], None]) -> Script:
    """Return a script that reads the request, says `data` and ends the connection."""

    async def script(connection: PeerConnection) -> None:
        await connection.read_request()
        await connection.write(data)
        end(connection)

    return script


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
        reply = await send(provider(peer.url))

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
    body = b"".join(b'["n%d", "%x"]' % (number, number**9) for number in range(400))
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

        reply = await send(provider(f"http://127.0.0.1:{line.port}"))

        assert b"refresh_token=r%2B" in peer.connections[0].received
    assert isinstance(reply, Broken)
    assert BODY.startswith(reply.body)


async def test_a_request_that_is_cut_on_its_way_is_broken() -> None:
    """Some of it left, so it is not for this side to say that nothing did."""
    async with ScriptedPeer(answer_well) as peer, Faultline(port=peer.port) as line:
        line.fault = Fault(request=Direction(cut_after=40), is_reset=True)

        reply = await send(provider(f"http://127.0.0.1:{line.port}"))

    assert reply == Broken()


async def test_an_answer_that_the_line_holds_back_is_awaited() -> None:
    """A slow line is no broken one."""
    async with ScriptedPeer(answer_well) as peer, Faultline(port=peer.port) as line:
        gate = asyncio.Event()
        line.fault = Fault(reply=Direction(gate=gate))
        sending = asyncio.ensure_future(send(provider(f"http://127.0.0.1:{line.port}")))
        await until(
            lambda: bool(peer.connections and peer.connections[0].request),
            within_s=30,
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

        reply = await send(provider(f"http://127.0.0.1:{line.port}"))

        assert line.accepted == 1
        assert peer.connections == []
    assert isinstance(reply, Broken | NotSent)


async def test_the_socket_is_gone_when_a_broken_answer_is_returned() -> None:
    """Whoever repeats the request may rely on it that this one can bring nothing any more."""
    with raw_server() as (listener, url):
        sending = asyncio.ensure_future(send(provider(url)))
        with await accept_request(listener) as connection:
            connection.send(b"no HTTP at all\r\n\r\n")

            reply = await sending

            with pytest.raises(ConnectionResetError):
                connection.recv(1, socket.MSG_DONTWAIT)
    assert reply == Broken()
