"""One call of the token service's client, as the tests of `http_idp` make it.

It must not know what a test expects of the reply.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Awaitable, Callable, Generator
from pathlib import Path
from typing import Final, final

from sidecar.adapters.http_idp import HttpIdentityProvider
from sidecar.adapters.trust import client_context
from sidecar.domain.failure import Operation
from sidecar.domain.secret import Secret
from sidecar.domain.wire import TokenReply, TokenRequest
from tests.support.scripted_peer import PeerConnection, answer

BODY: Final = json.dumps(
    {"refresh_token": "next-canary", "id_token": "a.b.c", "expires_in": 900}
).encode()
"""An answer with a successor."""

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
    """Let the request be sent."""
    return True


async def no() -> bool:
    """Veto it."""
    return False


@final
class Told:
    """What `on_answer` was called with."""

    def __init__(self) -> None:
        self.replies: list[TokenReply] = []

    def __call__(self, reply: TokenReply) -> None:
        self.replies.append(reply)


def provider(
    url: str, *, ca_file: Path | None = None, egress_proxy: str | None = None
) -> HttpIdentityProvider:
    """Return a client that has five seconds to connect."""
    return HttpIdentityProvider(
        idp_url=url,
        connect_timeout_s=5,
        tls=None if ca_file is None else client_context(str(ca_file)),
        egress_proxy=egress_proxy,
    )


async def send(
    idp: HttpIdentityProvider,
    *,
    before_send: Callable[[], Awaitable[bool]] = yes,
    request: TokenRequest = REFRESH,
) -> TokenReply:
    """Send once, and hold the promise that every reply is told once and returned."""
    told = Told()
    reply = await idp.send(request, before_send=before_send, on_answer=told)
    assert told.replies == [reply]
    return reply


async def answer_well(connection: PeerConnection) -> None:
    """Script: answer with a successor."""
    await connection.read_request()
    await connection.write(answer(BODY))
    await connection.read_to_the_end()


async def listen(connection: PeerConnection) -> None:
    """Script: say nothing."""
    await connection.read_to_the_end()


@contextlib.contextmanager
def raw_server() -> Generator[tuple[socket.socket, str]]:
    """A listening socket whose other side the test plays itself, without the loop."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.setblocking(False)  # noqa: FBT003 - the socket API's
        yield listener, f"http://127.0.0.1:{listener.getsockname()[1]}"


async def accept_request(listener: socket.socket) -> socket.socket:
    """Return the next connection once its request is whole."""
    loop = asyncio.get_running_loop()
    connection, _ = await loop.sock_accept(listener)
    received = b""
    while not received.endswith(b"client_secret=s-canary"):
        received += await loop.sock_recv(connection, 65536)
    return connection
