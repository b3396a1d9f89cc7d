"""The token service over real sockets: what is sent, when nothing is, what whole answers say."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, final
from urllib.parse import parse_qs

import pytest
import trustme

from sidecar.adapters.http_idp import HttpIdentityProvider
from sidecar.domain.failure import Operation
from sidecar.domain.secret import Secret
from sidecar.domain.wire import Answered, Broken, NotSent, TokenReply, TokenRequest
from tests.support.scripted_peer import Ending, PeerConnection, ScriptedPeer, answer, turns
from tests.support.wait import until

BODY: Final = json.dumps({"refresh_token": "next-canary", "id_token": "a.b.c"}).encode()

REFRESH: Final = TokenRequest(
    operation=Operation.REFRESH,
    path="/token",
    form=(
        ("grant_type", "refresh_token"),
        ("refresh_token", Secret("r+/= canary")),
        ("client_id", "app"),
        ("client_secret", Secret("s-canary")),
    ),
)


async def yes() -> bool:
    return True


async def no() -> bool:
    return False


@final
class Told:
    """What `on_answer` was called with."""

    def __init__(self) -> None:
        self.replies: list[TokenReply] = []

    def __call__(self, reply: TokenReply) -> None:
        self.replies.append(reply)


async def send(
    url: str,
    *,
    before_send: Callable[[], Awaitable[bool]] = yes,
    request: TokenRequest = REFRESH,
    ca_file: Path | None = None,
    egress_proxy: str | None = None,
) -> TokenReply:
    """Send once, and hold the promise that every reply is told once and returned."""
    idp = HttpIdentityProvider(
        idp_url=url, connect_timeout_s=5, ca_file=ca_file, egress_proxy=egress_proxy
    )
    told = Told()
    reply = await idp.send(request, before_send=before_send, on_answer=told)
    assert told.replies == [reply]
    return reply


async def answer_well(connection: PeerConnection) -> None:
    await connection.read_request()
    await connection.write(answer(BODY))
    await connection.read_to_the_end()


async def listen(connection: PeerConnection) -> None:
    await connection.read_to_the_end()


@pytest.fixture(name="authority")
def _authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(name="ca_file")
def _ca_file(authority: trustme.CA, tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


@pytest.fixture(name="server_tls")
def _server_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(  # pyright: ignore[reportUnknownMemberType]
        context  # (its signature names OpenSSL's own type as well)
    )
    return context


async def test_one_request_goes_out_as_the_documentation_wants_it() -> None:
    """Method, path, form and headers on the wire, and nothing that keeps the connection."""
    async with ScriptedPeer(answer_well) as peer:
        reply = await send(f"{peer.url}/prefix/")

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
        await send(peer.url, request=request)

        received = bytes(peer.connections[0].received)
    assert b"Authorization: Basic " + base64.b64encode(b"app:s%2B") in received


async def test_a_veto_after_the_connection_stands_sends_nothing() -> None:
    """The caller is asked on a standing connection; its no closes it without one byte."""
    async with ScriptedPeer(listen) as peer:

        async def veto() -> bool:
            await until(lambda: len(peer.connections) == 1, within_s=5, what="the connection")
            return False

        reply = await send(peer.url, before_send=veto)

        await until(
            lambda: peer.connections[0].ending is not None, within_s=5, what="the connection's end"
        )
        assert peer.connections[0].received == b""
    assert reply == NotSent(is_vetoed=True)


async def test_a_veto_after_tls_stands_sends_nothing(
    server_tls: ssl.SSLContext, ca_file: Path
) -> None:
    """TLS belongs to the connection: its handshake is over before the caller is asked."""
    async with ScriptedPeer(listen, tls=server_tls) as peer:

        async def veto() -> bool:
            await until(lambda: len(peer.connections) == 1, within_s=5, what="the TLS connection")
            return False

        reply = await send(peer.url, before_send=veto, ca_file=ca_file)

        await until(
            lambda: peer.connections[0].ending is not None, within_s=5, what="the connection's end"
        )
        assert peer.connections[0].received == b""
    assert reply == NotSent(is_vetoed=True)


async def test_an_answer_comes_over_tls(server_tls: ssl.SSLContext, ca_file: Path) -> None:
    """A private authority is trusted where its file is given."""
    async with ScriptedPeer(answer_well, tls=server_tls) as peer:
        reply = await send(peer.url, ca_file=ca_file)

    assert reply == Answered(status=200, body=BODY, content_type="application/json")


async def test_an_untrusted_peer_gets_nothing(server_tls: ssl.SSLContext) -> None:
    """A failed handshake is no connection, and the caller is not even asked."""
    asked: list[bool] = []

    async def ask() -> bool:
        asked.append(True)
        return True

    async with ScriptedPeer(listen, tls=server_tls) as peer:
        reply = await send(peer.url, before_send=ask)

    assert reply == NotSent()
    assert not asked


async def test_a_refused_connection_sends_nothing() -> None:
    """Nobody listens: the request never left."""
    async with ScriptedPeer(listen) as peer:
        url = peer.url

    assert await send(url) == NotSent()


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
            await until(lambda: loop.time() > asked_at + 0.15, within_s=5, what="the pause")
            return True

        reply = await idp.send(REFRESH, before_send=hesitate, on_answer=Told())

    assert isinstance(reply, Answered)


async def test_a_peer_that_hangs_up_before_it_is_asked_gets_nothing() -> None:
    """A connection that died while the claim was marked is not written to."""

    async def hang_up(connection: PeerConnection) -> None:
        connection.end_sending()

    async with ScriptedPeer(hang_up) as peer:

        async def wait_for_the_end() -> bool:
            await until(lambda: len(peer.connections) == 1, within_s=5, what="the connection")
            await peer.connections[0].read_to_the_end()
            return True

        reply = await send(peer.url, before_send=wait_for_the_end)

    assert reply == NotSent()


async def test_a_peer_that_speaks_before_it_is_asked_gets_nothing() -> None:
    """What it says cannot be an answer to a request that it has not seen."""

    async def refuse_early(connection: PeerConnection) -> None:
        await connection.write(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")
        await connection.read_to_the_end()

    async with ScriptedPeer(refuse_early) as peer:

        async def hesitate() -> bool:
            await until(lambda: len(peer.connections) == 1, within_s=5, what="the connection")
            await turns(10)
            return True

        reply = await send(peer.url, before_send=hesitate)

        assert peer.connections[0].received == b""
    assert reply == NotSent()


async def test_an_exception_of_the_caller_sends_nothing_and_goes_on() -> None:
    """A bug in the marking of a claim is not swallowed, and costs nothing."""
    told = Told()

    async def fail() -> bool:
        raise LookupError("a bug")

    async with ScriptedPeer(listen) as peer:
        idp = HttpIdentityProvider(idp_url=peer.url, connect_timeout_s=5)

        with pytest.raises(LookupError):
            await idp.send(REFRESH, before_send=fail, on_answer=told)

        await until(
            lambda: peer.connections[0].ending is not None, within_s=5, what="the connection's end"
        )
        assert peer.connections[0].received == b""
    assert told.replies == [NotSent()]


@pytest.mark.parametrize("status", ["302 Found", "307 Temporary Redirect", "308 Permanent"])
async def test_a_redirect_is_an_answer_and_is_never_followed(status: str) -> None:
    """A claim that is sent a second time, elsewhere, would spend the token there."""

    async def redirect(connection: PeerConnection) -> None:
        await connection.read_request()
        await connection.write(answer(b"", status=status, headers="Location: /other\r\n"))
        await connection.read_to_the_end()

    async with ScriptedPeer(redirect) as peer:
        reply = await send(peer.url)

        assert len(peer.connections) == 1
    assert isinstance(reply, Answered)
    assert reply.status == int(status[:3])


async def test_an_answer_in_single_bytes_is_whole() -> None:
    """No chunking of the network changes what was said."""

    async def dribble(connection: PeerConnection) -> None:
        await connection.read_request()
        for octet in answer(BODY):
            await connection.write(bytes([octet]))
            await turns(1)
        await connection.read_to_the_end()

    async with ScriptedPeer(dribble) as peer:
        reply = await send(peer.url)

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
        reply = await send(peer.url)

    assert reply == Answered(status=200, body=BODY)


async def test_compression_that_nobody_asked_for_loses_no_token() -> None:
    """A gateway that packs the answer all the same does not cost the grant."""

    async def pack(connection: PeerConnection) -> None:
        await connection.read_request()
        packed = gzip.compress(BODY)
        await connection.write(answer(packed, headers="Content-Encoding: gzip\r\n"))
        await connection.read_to_the_end()

    async with ScriptedPeer(pack) as peer:
        reply = await send(peer.url)

    assert isinstance(reply, Answered)
    assert reply.body == BODY


async def test_an_endless_answer_is_cut_off_at_a_mebibyte() -> None:
    """No peer can fill the memory; the connection is reset."""

    async def flood(connection: PeerConnection) -> None:
        await connection.read_request()
        await connection.write(b"HTTP/1.1 200 OK\r\n\r\n" + BODY)
        try:
            while True:
                await connection.write(b" " * 65536)
        except ConnectionResetError:
            connection.ending = Ending.RESET

    async with ScriptedPeer(flood) as peer:
        reply = await send(peer.url)

        await until(
            lambda: peer.connections[0].ending is Ending.RESET, within_s=5, what="the reset"
        )
    assert isinstance(reply, Broken)
    assert len(reply.body) == 1 << 20
    assert reply.body.startswith(BODY)


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
        reply = await send(peer.url)

    assert isinstance(reply, Answered)
    assert reply.retry_after_s == wish


@pytest.mark.parametrize("is_tls", [False, True])
async def test_a_whole_answer_ends_without_a_reset(
    is_tls: bool,  # noqa: FBT001 - a parameter of the test
    server_tls: ssl.SSLContext,
    ca_file: Path,
) -> None:
    """A service that did its work is not told by the kernel that its client failed."""
    async with ScriptedPeer(answer_well, tls=server_tls if is_tls else None) as peer:
        await send(peer.url, ca_file=ca_file)

        await until(lambda: peer.connections[0].ending is not None, within_s=5, what="the end")
        assert peer.connections[0].ending is Ending.FIN


async def test_no_two_requests_share_a_connection_or_a_cookie() -> None:
    """An idle connection may be closed by the peer while we write; a fresh one tells for sure."""

    async def answer_twice(connection: PeerConnection) -> None:
        await connection.read_request()
        await connection.write(
            answer(BODY, headers="Set-Cookie: a=b\r\nConnection: keep-alive\r\n")
        )
        await connection.read_to_the_end()

    async with ScriptedPeer(answer_twice) as peer:
        idp = HttpIdentityProvider(idp_url=peer.url, connect_timeout_s=5)
        for _ in range(2):
            await idp.send(REFRESH, before_send=yes, on_answer=Told())

        assert len(peer.connections) == 2
        assert b"ookie" not in peer.connections[1].received


async def test_the_environment_names_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the setting of the sidecar sends tokens through a third party."""
    async with ScriptedPeer(listen) as proxy, ScriptedPeer(answer_well) as peer:
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)

        reply = await send(peer.url)

        assert proxy.connections == []
    assert isinstance(reply, Answered)


def tunnel_to(peer: ScriptedPeer) -> Callable[[PeerConnection], Awaitable[None]]:
    """Return the script of an HTTP proxy that tunnels to `peer`."""

    async def tunnel(connection: PeerConnection) -> None:
        await connection.read_request()
        reader, writer = await asyncio.open_connection("127.0.0.1", peer.port)
        await connection.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await connection.join(reader, writer)

    return tunnel


@pytest.mark.parametrize("before_send", [yes, no])
async def test_a_tunnel_is_a_part_of_the_connection(
    before_send: Callable[[], Awaitable[bool]], server_tls: ssl.SSLContext, ca_file: Path
) -> None:
    """An egress proxy learns the host alone, and the caller is asked once TLS stands behind it."""
    async with (
        ScriptedPeer(answer_well, tls=server_tls) as peer,
        ScriptedPeer(tunnel_to(peer)) as proxy,
    ):

        async def ask() -> bool:
            await until(lambda: len(peer.connections) == 1, within_s=5, what="TLS to the peer")
            return await before_send()

        reply = await send(peer.url, before_send=ask, ca_file=ca_file, egress_proxy=proxy.url)

        seen = bytes(proxy.connections[0].request)
        is_vetoed = before_send is no
        assert (peer.connections[0].received == b"") is is_vetoed
    assert seen.startswith(f"CONNECT localhost:{peer_port(seen)} HTTP/1.1\r\n".encode())
    assert b"canary" not in seen
    assert isinstance(reply, NotSent if is_vetoed else Answered)


def peer_port(seen: bytes) -> int:
    return int(seen.split(b" ")[1].rpartition(b":")[2])


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
        reply = await send("https://idp.example", before_send=ask, egress_proxy=proxy.url)

        assert b"canary" not in proxy.connections[0].received
    assert reply == NotSent()
    assert not asked


async def test_nothing_prints_a_secret() -> None:
    """Neither the provider, nor a request, nor a reply shows what it carries."""
    async with ScriptedPeer(answer_well) as peer:
        reply = await send(peer.url)

    idp = HttpIdentityProvider(
        idp_url="https://idp.example",
        connect_timeout_s=5,
        egress_proxy="http://u:canary@proxy.example",
    )
    assert "canary" not in f"{reply!r}{REFRESH!r}{idp!r}"
