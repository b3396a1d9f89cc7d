"""What the kernel is told of a connection to the token service, and what of it is kept."""

from __future__ import annotations

import asyncio
import socket
import struct

from sidecar.adapters.idp_socket import ByteTap, claim_socket
from sidecar.domain.wire import Broken


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
