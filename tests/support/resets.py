"""Ends a connection so that its peer sees a reset, whatever was read of it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import Final

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


def reset(transport: asyncio.WriteTransport) -> None:
    """Reset the connection of a transport; one that is gone already stays so."""
    own: socket.socket | None = transport.get_extra_info("socket")
    if own is not None and own.fileno() >= 0:
        with contextlib.suppress(OSError):  # its peer may have ended it just now
            own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    transport.abort()
