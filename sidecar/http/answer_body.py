"""The body of an answer on its way from the upstream to the client, with back-pressure.

It holds what came and was not fetched yet, and stops the connection from reading while that is
much. It does not know how a body is framed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final, Protocol, final

from sidecar.domain.upstream_failures import UpstreamCause

_PAUSE_ABOVE_BYTES: Final = 131072
_ALL: Final = -1


class AnswerBroken(Exception):
    """The rest of an answer will not come, or could be read in two ways."""

    def __init__(self, cause: UpstreamCause) -> None:
        super().__init__(cause.value)
        self.cause: Final = cause


class Source(Protocol):
    """Where a body comes from."""

    def pause(self) -> None:
        """Read no more for now."""
        ...

    def resume(self) -> None:
        """Read on."""
        ...


@final
class AnswerBody:
    """A body that one task reads while another hand puts in what comes."""

    __slots__ = ("_broken", "_is_ended", "_is_paused", "_pieces", "_size", "_source", "_waiter")

    def __init__(self, source: Source) -> None:
        self._source = source
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._is_ended = False
        self._is_paused = False
        self._broken: UpstreamCause | None = None
        self._waiter: asyncio.Future[None] | None = None

    def put(self, piece: bytes) -> None:
        """Take what came."""
        self._pieces.append(piece)
        self._size += len(piece)
        if self._size > _PAUSE_ABOVE_BYTES and not self._is_paused:
            self._is_paused = True
            self._source.pause()
        self._wake()

    def end(self) -> None:
        """Nothing more comes; the body is whole."""
        self._is_ended = True
        if self._is_paused:
            # What is left over here is bounded, and the end of the connection must be noticed.
            self._is_paused = False
            self._source.resume()
        self._wake()

    def break_off(self, cause: UpstreamCause) -> None:
        """Nothing more comes, and the body is not whole."""
        self._broken = cause
        self._wake()

    def at_eof(self) -> bool:
        """Whether the body is whole and all of it was read."""
        return self._is_ended and not self._pieces

    def read_nowait(self) -> bytes:
        """Return what is here, perhaps nothing.

        Raises:
            AnswerBroken: The body is not whole.
        """
        if self._broken is not None:
            raise AnswerBroken(self._broken)
        if len(self._pieces) == 1:
            data = self._pieces.popleft()
        else:
            data = b"".join(self._pieces)
            self._pieces.clear()
        self._size = 0
        if self._is_paused:
            self._is_paused = False
            self._source.resume()
        return data

    async def readany(self) -> bytes:
        """Return what is here as soon as there is something, ``b""`` at the end.

        Raises:
            AnswerBroken: The body is not whole.
        """
        while not self._pieces and not self._is_ended and self._broken is None:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self.read_nowait()

    async def read(self, most: int = _ALL) -> bytes:
        """Return at most `most` octets of what is here, or else the whole rest.

        Raises:
            AnswerBroken: The body is not whole.
        """
        if most == _ALL:
            parts: list[bytes] = []
            while part := await self.readany():
                parts.append(part)
            return b"".join(parts)
        data = await self.readany()
        if len(data) > most:
            self._pieces.appendleft(data[most:])
            self._size = len(data) - most
        return data[:most]

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
