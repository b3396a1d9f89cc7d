"""What the kernel is told of a connection to the token service, and what of it is kept."""

from __future__ import annotations

import asyncio
import socket
import struct

from sidecar.adapters.idp_socket import ByteTap, claim_socket
from sidecar.domain.wire import Answered, Broken


def test_a_socket_dies_with_its_process() -> None:
    """A request in a partition is neither delivered late nor retransmitted for ever."""
    with claim_socket((socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ())) as made:
        linger = made.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)

        assert struct.unpack("ii", linger) == (1, 0)
        assert made.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 15_000
        assert made.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        assert made.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 0


class _Transport(asyncio.Transport):
    """A transport without a network."""


async def test_what_is_kept_of_a_flood_is_bounded() -> None:
    """Interim answers may come for ever: their beginning is kept, and then they are given up."""
    ends: list[None] = []
    tap = ByteTap(
        transport=_Transport(), inner=asyncio.Protocol(), on_end=lambda: ends.append(None)
    )

    for _ in range(64):
        tap.data_received(b"HTTP/1.1 100 Continue\r\n\r\n" * 4096)

    assert tap.reply == Broken()
    assert len(ends) == 1
    assert tap.arrived_bytes <= (1 << 20) + (1 << 18)


class _ClosedSocket:
    """A socket as uvloop shows it: once it is closed, whoever touches it is told so."""

    def __init__(self) -> None:
        self.is_open = True
        self.options: list[bytes] = []

    def setsockopt(self, _level: int, _name: int, value: bytes) -> None:
        if not self.is_open:
            message = "negative file descriptor"
            raise ValueError(message)
        self.options.append(value)


class _EndingTransport(asyncio.Transport):
    """A transport over such a socket."""

    def __init__(self, closing: _ClosedSocket) -> None:
        super().__init__({"socket": closing})
        self.is_aborted = False

    def abort(self) -> None:
        self.is_aborted = True


async def test_a_connection_that_has_ended_is_not_touched_any_more() -> None:
    """An answer that ends with its connection is whole; its socket may be somebody else's now."""
    closing = _ClosedSocket()
    transport = _EndingTransport(closing)
    ends: list[None] = []
    tap = ByteTap(transport=transport, inner=asyncio.Protocol(), on_end=lambda: ends.append(None))
    tap.data_received(b"HTTP/1.1 503 Busy\r\n\r\nbusy")

    tap.eof_received()
    closing.is_open = False
    tap.connection_lost(None)
    tap.let_go()

    assert tap.reply == Answered(status=503, body=b"busy")
    assert closing.options == [struct.pack("ii", 0, 0)]
    assert (len(ends), tap.closed.done(), transport.is_aborted) == (1, True, True)


async def test_a_connection_that_is_lost_without_its_end_still_ends_the_wait() -> None:
    """Whatever is left of it: the claim behind it goes on."""
    closing = _ClosedSocket()
    ends: list[None] = []
    tap = ByteTap(
        transport=_EndingTransport(closing),
        inner=asyncio.Protocol(),
        on_end=lambda: ends.append(None),
    )
    tap.data_received(b'HTTP/1.1 400 No\r\n\r\n{"error":"invalid_request"')
    closing.is_open = False

    tap.connection_lost(ConnectionResetError())

    assert tap.reply == Broken(status=400, body=b'{"error":"invalid_request"')
    assert (len(ends), closing.options) == (1, [])
