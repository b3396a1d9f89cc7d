"""The body of a client's request: kept whole while it is small, streamed when it is not.

It bounds size, silence, and slowness, and remembers why a body ended early. It does not know where
the body goes.
"""

from __future__ import annotations

import asyncio
from typing import final

from aiohttp import web
from aiohttp.streams import StreamReader

from sidecar.domain.pace import Pace
from sidecar.domain.request_target import Refused
from sidecar.domain.tokens import ProblemReason
from sidecar.http.upstream import UploadStopped


@final
class RequestBody:
    """One request body; read by `take_whole`, and where that says no, by `next_chunk`.

    Attributes:
        received_bytes: What came so far.
        is_stopped: The body will never be whole.
        refusal: Why, where that deserves an answer; ``None`` where the client went silent or away.
    """

    __slots__ = (
        "_length",
        "_limit_bytes",
        "_pace",
        "_silence_s",
        "_start",
        "_stream",
        "_waited_s",
        "is_stopped",
        "received_bytes",
        "refusal",
    )

    def __init__(
        self,
        *,
        stream: StreamReader,
        length: int | None,
        limit_bytes: int,
        silence_s: float,
        pace: Pace,
    ) -> None:
        self._stream = stream
        self._length = length
        self._limit_bytes = limit_bytes
        self._silence_s = silence_s
        self._pace = pace
        self._waited_s = 0.0
        self._start = b""
        self.received_bytes = 0
        self.is_stopped = False
        self.refusal: Refused | None = None

    @property
    def length(self) -> int | None:
        """Its length if the client told it."""
        return self._length

    async def take_whole(self, *, keep_bytes: int) -> bytes | None:
        """Return the whole body if it has at most `keep_bytes`, else ``None``: then stream it.

        In that case some of it is here: a request of which nothing follows its head goes nowhere.

        Raises:
            UploadStopped: It will never be whole.
        """
        if self._length is not None and self._length > keep_bytes:
            self._start = await self._read()
            return None
        kept: list[bytes] = []
        while chunk := await self._read():
            kept.append(chunk)
            if self.received_bytes > keep_bytes:
                self._start = b"".join(kept)
                return None
        return b"".join(kept)

    async def next_chunk(self) -> bytes:
        """Return more of it, ``b""`` at its end.

        Raises:
            UploadStopped: It will never be whole; `refusal` says why, where the client can know.
        """
        if self._start:
            start, self._start = self._start, b""
            return start
        return await self._read()

    async def _read(self) -> bytes:
        loop = asyncio.get_running_loop()
        since_s = loop.time()
        patience_s = self._pace.patience_s(
            received_bytes=self.received_bytes, waited_s=self._waited_s
        )
        try:
            async with asyncio.timeout(min(self._silence_s, patience_s)):
                chunk = await self._stream.readany()
        except web.RequestPayloadError as error:
            raise self._stop(Refused(reason=ProblemReason.REQUEST_INVALID)) from error
        except OSError as error:
            # The client left, or (TimeoutError) stayed silent or was slow for too long.
            raise self._stop(None) from error
        self._waited_s += loop.time() - since_s
        self.received_bytes += len(chunk)
        if self._length is not None and (
            self.received_bytes > self._length or (not chunk and self.received_bytes < self._length)
        ):
            # The upstream is told the length before the body: it must come true.
            raise self._stop(Refused(reason=ProblemReason.REQUEST_INVALID))
        if 0 < self._limit_bytes < self.received_bytes:
            raise self._stop(Refused(reason=ProblemReason.REQUEST_TOO_LARGE))
        return chunk

    def _stop(self, refusal: Refused | None) -> UploadStopped:
        self.is_stopped = True
        self.refusal = refusal
        return UploadStopped()
