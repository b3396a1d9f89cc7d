"""How a request to the token service goes out: what is on the wire, once, and to whom."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from sidecar.adapters.http_idp import HttpIdentityProvider
from sidecar.domain.failure import Operation
from sidecar.domain.secret import Secret
from sidecar.domain.wire import Answered, NotSent, TokenRequest
from tests.support.idp_calls import (
    BODY,
    REFRESH,
    Told,
    answer_well,
    listen,
    no,
    provider,
    send,
    yes,
)
from tests.support.scripted_peer import PeerConnection, ScriptedPeer, answer
from tests.support.tls import private_tls
from tests.support.wait import until


def tunnel_to(peer: ScriptedPeer) -> Callable[[PeerConnection], Awaitable[None]]:
    """Return the script of an HTTP proxy that tunnels to `peer`."""

    async def tunnel(connection: PeerConnection) -> None:
        await connection.read_request()
        reader, writer = await asyncio.open_connection("127.0.0.1", peer.port)
        await connection.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await connection.join(reader, writer)

    return tunnel


async def test_one_request_goes_out_as_the_documentation_wants_it() -> None:
    """Method, path, form and headers on the wire, and nothing that keeps the connection."""
    async with ScriptedPeer(answer_well) as peer:
        reply = await send(provider(f"{peer.url}/prefix/"))

        head, _, form = bytes(peer.connections[0].received).partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines[1:])
    assert reply == Answered(status=200, body=BODY, content_type="application/json")
    assert lines[0] == "POST /prefix/token HTTP/1.1"
    assert headers["content-type"] == "application/x-www-form-urlencoded"
    assert headers["accept"] == "application/json"
    assert headers["accept-encoding"] == "identity"
    assert headers["connection"] == "close"
    assert headers["user-agent"].startswith("akoya-sidecar/")
    assert "authorization" not in headers
    assert "cookie" not in headers
    assert list(parse_qs(form.decode())) == [name for name, _ in REFRESH.form]
    assert parse_qs(form.decode())["refresh_token"] == ["r+/= canary"]


async def test_basic_credentials_go_into_the_header() -> None:
    """The exchange of a code is authenticated there."""
    request = TokenRequest(
        operation=Operation.OBTAIN, path="/token", form=(), basic_auth=("app", Secret("s%2B"))
    )
    async with ScriptedPeer(answer_well) as peer:
        await send(provider(peer.url), request=request)

        received = bytes(peer.connections[0].received)
    assert b"Authorization: Basic " + base64.b64encode(b"app:s%2B") in received


@pytest.mark.parametrize("status", ["302 Found", "307 Temporary Redirect", "308 Permanent"])
async def test_a_redirect_is_an_answer_and_is_never_followed(status: str) -> None:
    """A claim that is sent a second time, elsewhere, would spend the token there."""

    async def redirect(connection: PeerConnection) -> None:
        await connection.read_request()
        await connection.write(answer(b"", status=status, headers="Location: /other\r\n"))
        await connection.read_to_the_end()

    async with ScriptedPeer(redirect) as peer:
        reply = await send(provider(peer.url))

        assert len(peer.connections) == 1
    assert isinstance(reply, Answered)
    assert reply.status == int(status[:3])


async def test_no_two_requests_share_a_connection_or_a_cookie() -> None:
    """An idle connection may be closed by the peer while we write; a fresh one tells for sure."""

    async def answer_twice(connection: PeerConnection) -> None:
        await connection.read_request()
        await connection.write(
            answer(BODY, headers="Set-Cookie: a=b\r\nConnection: keep-alive\r\n")
        )
        await connection.read_to_the_end()

    async with ScriptedPeer(answer_twice) as peer:
        idp = provider(peer.url)
        for _ in range(2):
            await idp.send(REFRESH, before_send=yes, on_answer=Told())

        assert len(peer.connections) == 2
        assert b"ookie" not in peer.connections[1].received


async def test_the_environment_names_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the setting of the sidecar sends tokens through a third party."""
    async with ScriptedPeer(listen) as proxy, ScriptedPeer(answer_well) as peer:
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)

        reply = await send(provider(peer.url))

        assert proxy.connections == []
    assert isinstance(reply, Answered)


@pytest.mark.parametrize("before_send", [yes, no])
async def test_a_tunnel_is_a_part_of_the_connection(
    before_send: Callable[[], Awaitable[bool]], tmp_path: Path
) -> None:
    """An egress proxy learns the host alone, and the caller is asked once TLS stands behind it."""
    tls = private_tls(tmp_path)
    async with (
        ScriptedPeer(answer_well, tls=tls.server) as peer,
        ScriptedPeer(tunnel_to(peer)) as proxy,
    ):

        async def ask() -> bool:
            await until(lambda: len(peer.connections) == 1, within_s=30, what="TLS to the peer")
            return await before_send()

        reply = await send(
            provider(peer.url, ca_file=tls.ca_file, egress_proxy=proxy.url), before_send=ask
        )

        seen = bytes(proxy.connections[0].request)
        is_vetoed = before_send is no
        assert (peer.connections[0].received == b"") is is_vetoed
    assert seen.startswith(f"CONNECT localhost:{peer_port(seen)} HTTP/1.1\r\n".encode())
    assert b"canary" not in seen
    assert isinstance(reply, NotSent if is_vetoed else Answered)


async def test_nothing_prints_a_secret() -> None:
    """Neither the provider, nor a request, nor a reply shows what it carries."""
    async with ScriptedPeer(answer_well) as peer:
        reply = await send(provider(peer.url))

    idp = HttpIdentityProvider(
        idp_url="https://idp.example",
        connect_timeout_s=5,
        egress_proxy="http://u:canary@proxy.example",
    )
    assert "canary" not in f"{reply!r}{REFRESH!r}{idp!r}"


def peer_port(seen: bytes) -> int:
    return int(seen.split(b" ")[1].rpartition(b":")[2])
