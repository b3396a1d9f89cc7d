"""The way of one sidecar to Redis: bytes go through, or into a hole.

In a hole nothing comes back and nobody is told; what was swallowed is delivered late, also when its
sender has long gone, or is lost with its connection. It must not know what the bytes mean.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self, cast, final

from tests.chaos.evidence import Span
from tests.chaos.witness import now_s
from tests.support.resets import reset


@final
class RedisLine:
    """Listens on a free port of 127.0.0.1 while entered and passes on to `port`.

    Attributes:
        holes: When nothing went through.
    """

    def __init__(self, port: int) -> None:
        self.holes: list[Span] = []
        self._target = port
        self._server: asyncio.Server | None = None
        self._links: set[_Link] = set()
        self._hole_since_s: float | None = None

    @property
    def url(self) -> str:
        """Where a sidecar finds Redis."""
        assert self._server is not None
        return f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/0"

    @property
    def is_cut(self) -> bool:
        """Whether bytes go into a hole."""
        return self._hole_since_s is not None

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        for link in list(self._links):
            link.reset()

    def cut(self) -> None:
        """Open the hole."""
        if self._hole_since_s is None:
            self._hole_since_s = now_s()

    def mend(self, *, delivers: bool) -> None:
        """Close the hole; what it swallowed is delivered now, or lost with its connections."""
        if self._hole_since_s is None:
            return
        since_s, self._hole_since_s = self._hole_since_s, None
        for link in list(self._links):
            if delivers:
                link.flush()
            elif link.has_swallowed:
                link.reset()
        self.holes.append(Span(from_s=since_s, to_s=now_s()))

    def _accept(self) -> _Half:
        link = _Link(line=self, port=self._target)
        self._links.add(link)
        return link.near

    def forget(self, link: _Link) -> None:
        """Let go of a link that has ended."""
        self._links.discard(link)


@final
class _Link:
    """One connection through the line, as two halves."""

    def __init__(self, *, line: RedisLine, port: int) -> None:
        self._line = line
        self._port = port
        self.near, self.far = _Half(self), _Half(self)
        self._connecting: asyncio.Task[None] | None = None

    @property
    def is_cut(self) -> bool:
        return self._line.is_cut

    @property
    def has_swallowed(self) -> bool:
        return self.near.has_swallowed or self.far.has_swallowed

    def connected(self, half: _Half) -> None:
        """Go on to the far end once the near one stands."""
        if half is self.near:
            self._connecting = asyncio.get_running_loop().create_task(self._connect())
        else:
            self.flush()

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: self.far, "127.0.0.1", self._port)
        except OSError:
            self.reset()

    def received(self, half: _Half, data: bytes) -> None:
        half.pending.append(data)
        if not self.is_cut:
            self._pass_on(half)

    def lost(self, half: _Half) -> None:
        half.is_over = True
        if not self.is_cut:
            self._end()

    def flush(self) -> None:
        """Deliver what was swallowed, and end what ended meanwhile."""
        if self.is_cut:
            return
        for half in (self.near, self.far):
            self._pass_on(half)
        if self.near.is_over or self.far.is_over:
            self._end()

    def reset(self) -> None:
        """End both connections at once; nothing that was swallowed is delivered."""
        for half in (self.near, self.far):
            half.pending.clear()
            half.reset()
        self._line.forget(self)

    def _pass_on(self, half: _Half) -> None:
        other = self.far if half is self.near else self.near
        if other.transport is not None and not other.is_over and half.pending:
            other.transport.write(b"".join(half.pending))
            half.pending.clear()

    def _end(self) -> None:
        """Close what still stands; a far end that is not there yet gets its bytes first."""
        if self.near.is_over and self.far.transport is None and not self.far.is_over:
            return
        for half in (self.near, self.far):
            if half.transport is not None:
                half.transport.close()
        self._line.forget(self)


@final
class _Half(asyncio.Protocol):
    """One of the two connections of a link."""

    def __init__(self, link: _Link) -> None:
        self.transport: asyncio.Transport | None = None
        self.pending: list[bytes] = []
        self.is_over = False
        self._link = link

    @property
    def has_swallowed(self) -> bool:
        """Whether bytes wait here, or an end was not told."""
        return bool(self.pending) or self.is_over

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's are none by name
        self._link.connected(self)

    def data_received(self, data: bytes) -> None:
        self._link.received(self, data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._link.lost(self)

    def reset(self) -> None:
        """End this connection so that its peer notices."""
        if self.transport is None:
            self.is_over = True
            return
        reset(self.transport)
