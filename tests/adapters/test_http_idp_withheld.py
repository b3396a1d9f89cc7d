"""When nothing is sent to the token service, and that nothing really is."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from sidecar.adapters.http_idp import HttpIdentityProvider
from sidecar.domain.wire import Answered, NotSent
from tests.support.idp_calls import REFRESH, Told, answer_well, listen, provider, send, yes
from tests.support.scripted_peer import PeerConnection, ScriptedPeer, answer, turns
from tests.support.tls import private_tls
from tests.support.wait import until


async def test_a_veto_after_the_connection_stands_sends_nothing() -> None:
    """The caller is asked on a standing connection; its no closes it without one byte."""
    async with ScriptedPeer(listen) as peer:

        async def veto() -> bool:
            await until(lambda: len(peer.connections) == 1, within_s=30, what="the connection")
            return False

        reply = await send(provider(peer.url), before_send=veto)

        await until(
            lambda: peer.connections[0].ending is not None, within_s=30, what="the connection's end"
        )
        assert peer.connections[0].received == b""
    assert reply == NotSent(is_vetoed=True)


async def test_a_veto_after_tls_stands_sends_nothing(tmp_path: Path) -> None:
    """TLS belongs to the connection: its handshake is over before the caller is asked."""
    tls = private_tls(tmp_path)
    async with ScriptedPeer(listen, tls=tls.server) as peer:

        async def veto() -> bool:
            await until(lambda: len(peer.connections) == 1, within_s=30, what="the TLS connection")
            return False

        reply = await send(provider(peer.url, ca_file=tls.ca_file), before_send=veto)

        await until(
            lambda: peer.connections[0].ending is not None, within_s=30, what="the connection's end"
        )
        assert peer.connections[0].received == b""
    assert reply == NotSent(is_vetoed=True)


async def test_an_untrusted_peer_gets_nothing(tmp_path: Path) -> None:
    """A failed handshake is no connection, and the caller is not even asked."""
    asked: list[bool] = []

    async def ask() -> bool:
        asked.append(True)
        return True

    tls = private_tls(tmp_path)
    async with ScriptedPeer(listen, tls=tls.server) as peer:
        reply = await send(provider(peer.url), before_send=ask)

    assert reply == NotSent()
    assert not asked


async def test_a_refused_connection_sends_nothing() -> None:
    """Nobody listens: the request never left."""
    async with ScriptedPeer(listen) as peer:
        url = peer.url

    assert await send(provider(url)) == NotSent()


async def test_a_handshake_that_never_ends_is_given_up() -> None:
    """The connect timeout covers TLS too; nothing was sent by then."""
    async with ScriptedPeer(listen) as peer:
        idp = HttpIdentityProvider(
            idp_url=peer.url.replace("http:", "https:"), connect_timeout_s=0.05
        )

        reply = await idp.send(REFRESH, before_send=yes, on_answer=Told())

    assert reply == NotSent()


async def test_the_connect_timeout_does_not_press_the_caller() -> None:
    """Marking the claim in the store may take longer than a connection may."""
    loop = asyncio.get_running_loop()
    async with ScriptedPeer(answer_well) as peer:
        idp = HttpIdentityProvider(idp_url=peer.url, connect_timeout_s=0.05)

        async def hesitate() -> bool:
            asked_at = loop.time()
            await until(lambda: loop.time() > asked_at + 0.15, within_s=30, what="the pause")
            return True

        reply = await idp.send(REFRESH, before_send=hesitate, on_answer=Told())

    assert isinstance(reply, Answered)


async def test_a_peer_that_hangs_up_before_it_is_asked_gets_nothing() -> None:
    """A connection that died while the claim was marked is not written to."""

    async def hang_up(connection: PeerConnection) -> None:
        connection.end_sending()

    async with ScriptedPeer(hang_up) as peer:

        async def wait_for_the_end() -> bool:
            await until(lambda: len(peer.connections) == 1, within_s=30, what="the connection")
            await peer.connections[0].read_to_the_end()
            return True

        reply = await send(provider(peer.url), before_send=wait_for_the_end)

    assert reply == NotSent()


async def test_a_peer_that_speaks_before_it_is_asked_gets_nothing() -> None:
    """What it says cannot be an answer to a request that it has not seen."""

    async def refuse_early(connection: PeerConnection) -> None:
        await connection.write(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")
        await connection.read_to_the_end()

    async with ScriptedPeer(refuse_early) as peer:

        async def hesitate() -> bool:
            await until(lambda: len(peer.connections) == 1, within_s=30, what="the connection")
            await turns(10)
            return True

        reply = await send(provider(peer.url), before_send=hesitate)

        assert peer.connections[0].received == b""
    assert reply == NotSent()


async def test_an_exception_of_the_caller_sends_nothing_and_goes_on() -> None:
    """A bug in the marking of a claim is not swallowed, and costs nothing."""
    told = Told()

    async def fail() -> bool:
        raise LookupError("a bug")

    async with ScriptedPeer(listen) as peer:
        idp = provider(peer.url)

        with pytest.raises(LookupError):
            await idp.send(REFRESH, before_send=fail, on_answer=told)

        await until(
            lambda: peer.connections[0].ending is not None, within_s=30, what="the connection's end"
        )
        assert peer.connections[0].received == b""
    assert told.replies == [NotSent()]


async def test_a_proxy_that_refuses_the_tunnel_gets_nothing() -> None:
    """Its refusal is no answer of the token service."""
    asked: list[bool] = []

    async def ask() -> bool:
        asked.append(True)
        return True

    async def forbid(connection: PeerConnection) -> None:
        await connection.read_request()
        await connection.write(answer(b"no", status="403 Forbidden"))
        await connection.read_to_the_end()

    async with ScriptedPeer(forbid) as proxy:
        reply = await send(provider("https://idp.example", egress_proxy=proxy.url), before_send=ask)

        assert b"canary" not in proxy.connections[0].received
    assert reply == NotSent()
    assert not asked
