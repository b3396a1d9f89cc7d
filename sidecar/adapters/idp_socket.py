"""Sockets to the token service: they die with their process, and what they bring is kept raw.

It must not know HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import Final, final

from sidecar.adapters.answer_framing import ANSWER_LIMIT_BYTES

USER_TIMEOUT_MS: Final = 15_000
"""How long sent bytes may stay unacknowledged; it must end well before a stranger's hold does."""

_HEAD_ROOM_BYTES: Final = 1 << 18
"""What status line, headers and chunk framing may add to an answer that is kept raw."""

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
_CLOSE_POLITELY: Final = struct.pack("ii", 0, 0)


@final
class ByteTap(asyncio.Protocol):
    """Keeps every byte that arrives and hands it on; ends its connection in one of two ways.

    Attributes:
        transport: Whose bytes they are.
        arrived: What is kept of them, a bounded beginning.
        closed: Done when the socket is gone.
    """

    def __init__(self, *, transport: asyncio.Transport, inner: asyncio.Protocol) -> None:
        self.transport = transport
        self._socket: socket.socket = transport.get_extra_info("socket")
        self.arrived = bytearray()
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._inner = inner

    def data_received(self, data: bytes) -> None:
        """Keep what there is room for."""
        room = ANSWER_LIMIT_BYTES + _HEAD_ROOM_BYTES - len(self.arrived)
        self.arrived += data[:room]
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        """The peer ended its side."""
        return self._inner.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection ended."""
        self._inner.connection_lost(exc)
        if not self.closed.done():
            self.closed.set_result(None)

    def pause_writing(self) -> None:
        """The send buffer is full."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """The send buffer has room again."""
        self._inner.resume_writing()

    def close_politely(self) -> None:
        """End the connection after a whole answer: the peer sees no reset."""
        # It may be closed already, then there is nothing left to soften.
        with contextlib.suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _CLOSE_POLITELY)
        self.transport.abort()

    def reset(self) -> None:
        """End the connection so that the peer learns at once that nobody listens any more."""
        self.transport.abort()


def claim_socket(
    address: tuple[
        int | socket.AddressFamily, int | socket.SocketKind, int, str, tuple[object, ...]
    ],
) -> socket.socket:
    """Make a socket that the kernel forgets together with its process.

    Without the two options a request written into a partition is retransmitted, and delivered,
    after the process that sent it was killed. Keep-alive stays off: a peer that is silent for long
    may still answer.
    """
    family, kind, protocol, _, _ = address
    made = socket.socket(family=family, type=kind, proto=protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made
