"""Whole answers of the token service, however they are framed, packed or ended."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from sidecar.adapters.trust import client_context
from sidecar.domain.wire import Answered, Broken, NotSent
from tests.support.idp_calls import BODY, answer_well, provider, send
from tests.support.scripted_peer import Ending, PeerConnection, ScriptedPeer, answer, turns
from tests.support.tls import private_tls
from tests.support.wait import until


async def test_an_answer_comes_over_tls(tmp_path: Path) -> None:
    """A private authority is trusted where its file is given."""
    tls = private_tls(tmp_path)
    async with ScriptedPeer(answer_well, tls=tls.server) as peer:
        reply = await send(provider(peer.url, ca_file=tls.ca_file))

    assert reply == Answered(status=200, body=BODY, content_type="application/json")


async def test_other_authorities_count_from_the_next_request_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is under way ends as it began; and a file stands instead of the system's."""
    tls, other = private_tls(tmp_path), tmp_path / "other"
    other.mkdir()
    another = private_tls(other)
    monkeypatch.setenv("SSL_CERT_FILE", str(tls.ca_file))

    async def answer_late(connection: PeerConnection) -> None:
        idp.renew(tls=client_context(str(another.ca_file)), egress_proxy=None)
        await answer_well(connection)

    async with ScriptedPeer(answer_late, tls=tls.server) as peer:
        idp = provider(peer.url)
        under_way = await send(idp)
        after = await send(idp)

    assert under_way == Answered(status=200, body=BODY, content_type="application/json")
    assert after == NotSent()


async def test_an_answer_in_single_bytes_is_whole() -> None:
    """No chunking of the network changes what was said."""

    async def dribble(connection: PeerConnection) -> None:
        await connection.read_request()
        for octet in answer(BODY):
            await connection.write(bytes([octet]))
            await turns(1)
        await connection.read_to_the_end()

    async with ScriptedPeer(dribble) as peer:
        reply = await send(provider(peer.url))

    assert reply == Answered(status=200, body=BODY, content_type="application/json")


@pytest.mark.parametrize(
    "framed",
    [
        b"Transfer-Encoding: chunked\r\n\r\n5\r\n"
        + BODY[:5]
        + b"\r\n%x\r\n" % (len(BODY) - 5)
        # the rest in a second chunk with an extension and a trailer
        + BODY[5:]
        + b"\r\n0;x=y\r\nX-Trailer: 1\r\n\r\n",
        b"\r\n" + BODY,
    ],
    ids=["chunked", "until the end"],
)
async def test_every_framing_of_a_body_is_read(framed: bytes) -> None:
    """Chunks, or everything until the connection ends; an interim answer before it is skipped."""

    async def reply_framed(connection: PeerConnection) -> None:
        await connection.read_request()
        await connection.write(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")
        await connection.write(b"HTTP/1.1 200 OK\r\n" + framed)
        connection.close()

    async with ScriptedPeer(reply_framed) as peer:
        reply = await send(provider(peer.url))

    assert reply == Answered(status=200, body=BODY)


async def test_compression_that_nobody_asked_for_loses_no_token() -> None:
    """A gateway that packs the answer all the same does not cost the grant."""

    async def pack(connection: PeerConnection) -> None:
        await connection.read_request()
        packed = gzip.compress(BODY)
        await connection.write(answer(packed, headers="Content-Encoding: gzip\r\n"))
        await connection.read_to_the_end()

    async with ScriptedPeer(pack) as peer:
        reply = await send(provider(peer.url))

    assert isinstance(reply, Answered)
    assert reply.body == BODY


async def test_a_packed_answer_cannot_fill_the_memory() -> None:
    """A few bytes may unpack to any size; no more than a mebibyte of it is made."""

    async def pack(connection: PeerConnection) -> None:
        await connection.read_request()
        packed = gzip.compress(b" " * (8 << 20))
        await connection.write(answer(packed, headers="Content-Encoding: gzip\r\n"))
        await connection.read_to_the_end()

    async with ScriptedPeer(pack) as peer:
        reply = await send(provider(peer.url))

    assert isinstance(reply, Answered)
    assert len(reply.body) == 1 << 20


async def test_an_endless_answer_is_cut_off_at_a_mebibyte() -> None:
    """No peer can fill the memory; the connection is reset."""

    async def flood(connection: PeerConnection) -> None:
        await connection.read_request()
        await connection.write(b"HTTP/1.1 200 OK\r\n\r\n" + BODY[:-1])
        try:
            while True:
                await connection.write(b" " * 65536)
        except ConnectionResetError:
            connection.ending = Ending.RESET

    async with ScriptedPeer(flood) as peer:
        reply = await send(provider(peer.url))

        await until(
            lambda: peer.connections[0].ending is Ending.RESET, within_s=30, what="the reset"
        )
    assert isinstance(reply, Broken)
    assert len(reply.body) == 1 << 20
    assert reply.body.startswith(BODY[:-1])


@pytest.mark.parametrize(
    ("headers", "wish"),
    [
        ("Retry-After: 17\r\n", 17.0),
        (
            "Date: Mon, 23 Nov 2026 20:00:00 GMT\r\nRetry-After: Mon, 23 Nov 2026 20:00:30 GMT\r\n",
            30.0,
        ),
        (
            "Date: Mon, 23 Nov 2026 20:00:00 GMT\r\nRetry-After: Mon, 23 Nov 2026 19:00:00 GMT\r\n",
            0.0,
        ),
        ("Retry-After: Mon, 23 Nov 2026 20:00:30 GMT\r\n", None),
        ("Retry-After: -1\r\n", None),
        ("Retry-After: 0\r\n", 0.0),
        ("Retry-After: 600\r\n", 600.0),
        ("Retry-After: 601\r\n", 600.0),
        ("Retry-After: 31536000\r\n", 600.0),
        (f"Retry-After: {'9' * 400}\r\n", 600.0),
        (
            "Date: Mon, 23 Nov 2026 20:00:00 GMT\r\nRetry-After: Fri, 01 Jan 2099 00:00:00 GMT\r\n",
            600.0,
        ),
        (
            "Date: Mon, 01 Jan 0001 00:00:00 GMT\r\nRetry-After: Fri, 31 Dec 9999 23:59:59 GMT\r\n",
            600.0,
        ),
        ("Retry-After: soon\r\n", None),
        ("", None),
    ],
)
async def test_a_wish_to_wait_is_read_in_seconds(headers: str, wish: float | None) -> None:
    """A date is measured against the answer's own, since clocks differ."""

    async def refuse(connection: PeerConnection) -> None:
        await connection.read_request()
        await connection.write(answer(b"{}", status="429 Too Many Requests", headers=headers))
        await connection.read_to_the_end()

    async with ScriptedPeer(refuse) as peer:
        reply = await send(provider(peer.url))

    assert isinstance(reply, Answered)
    assert reply.retry_after_s == wish


@pytest.mark.parametrize("is_tls", [False, True])
async def test_a_whole_answer_ends_without_a_reset(
    is_tls: bool,  # noqa: FBT001 - a parameter of the test
    tmp_path: Path,
) -> None:
    """A service that did its work is not told by the kernel that its client failed."""
    tls = private_tls(tmp_path)
    async with ScriptedPeer(answer_well, tls=tls.server if is_tls else None) as peer:
        await send(provider(peer.url, ca_file=tls.ca_file))

        await until(lambda: peer.connections[0].ending is not None, within_s=30, what="the end")
        assert peer.connections[0].ending is Ending.FIN
