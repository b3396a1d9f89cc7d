"""Sockets to the token service: they die with their process, and what they bring is read raw.

It must not know where an answer ends (`answer_reader` does), nor what it means.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from typing import Final, final

from sidecar.adapters.answer_reader import AnswerReader
from sidecar.domain.wire import Answered, Broken

USER_TIMEOUT_MS: Final = 15_000
"""How long sent bytes may stay unacknowledged; it must end well before a stranger's hold does."""

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
_CLOSE_POLITELY: Final = struct.pack("ii", 0, 0)


@final
class ByteTap(asyncio.Protocol):
    """Reads what a connection brings, in the place of the library that writes to it.

    It passes no byte on: a parser that refuses one would close the connection on the rest.

    Attributes:
        transport: Whose bytes they are.
        reply: What they say, once nothing more is awaited; else ``None``.
        closed: Done when the connection is gone.
    """

    def __init__(
        self, *, transport: asyncio.Transport, inner: asyncio.Protocol, on_end: Callable[[], None]
    ) -> None:
        self.transport = transport
        self.reply: Answered | Broken | None = None
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._reader = AnswerReader()
        self._inner = inner
        self._on_end = on_end

    @property
    def arrived_bytes(self) -> int:
        """How much is kept of what came."""
        return len(self._reader.arrived)

    def so_far(self) -> Answered | Broken:
        """Return what the bytes say, if nothing more comes."""
        return self.reply if self.reply is not None else self._reader.reply(is_ended=False)

    def data_received(self, data: bytes) -> None:
        """Read on, until the answer is whole or too long."""
        if self.reply is None and self._reader.feed(data):
            self._end(is_ended=False, is_open=True)

    def eof_received(self) -> bool | None:
        """The peer ended its side, so that nothing more comes; the transport closes itself."""
        self._end(is_ended=True, is_open=True)
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection ended."""
        try:
            self._end(is_ended=exc is None, is_open=False)
            self._inner.connection_lost(exc)
        finally:
            if not self.closed.done():
                self.closed.set_result(None)

    def pause_writing(self) -> None:
        """The send buffer is full."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """The send buffer has room again."""
        self._inner.resume_writing()

    def let_go(self) -> None:
        """End the connection: with a reset, so that the peer learns at once that nobody listens.

        But not where its answer is whole.
        """
        self.transport.abort()

    def _end(self, *, is_ended: bool, is_open: bool) -> None:
        if self.reply is not None:
            return
        try:
            self.reply = self._reader.reply(is_ended=is_ended)
            if is_open and isinstance(self.reply, Answered):
                self._soften()
        finally:  # whatever else happens here, the wait is over
            self._on_end()

    def _soften(self) -> None:
        """Let the connection end without a reset.

        Here, in the step that read the end of the answer, the socket is still open. Later it may be
        closed, and its number belong to another connection.
        """
        transport_socket = self.transport.get_extra_info("socket")
        # Reset just now, it has nothing to soften; uvloop says ValueError of a closed one.
        with contextlib.suppress(OSError, ValueError):
            transport_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _CLOSE_POLITELY)


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
