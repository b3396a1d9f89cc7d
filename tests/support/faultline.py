"""A TCP line with faults: what passes between a client and a real server can be cut or held.

A fault is set while the line stands and holds for connections made afterwards. The line passes
bytes and must not know what they mean.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self, final

from tests.support.resets import reset

_CHUNK_BYTES: Final = 65536


@dataclass(frozen=True, slots=True, kw_only=True)
class Direction:
    """What goes wrong one way; the default is nothing.

    Attributes:
        gate: Bytes are passed on only once it is set, also when their sender has gone by then.
        cut_after: So many bytes are passed on before this way ends.
    """

    gate: asyncio.Event | None = None
    cut_after: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What goes wrong on a connection; the default is nothing.

    Attributes:
        is_refusing: The connection is reset as soon as it is made.
        request: From the client to the server.
        reply: From the server to the client.
        is_half_close: A cut ends its own way only, with a FIN; the other way lives on.
        is_reset: A cut ends the connection with a reset instead of a FIN.
    """

    is_refusing: bool = False
    request: Direction = field(default_factory=Direction)
    reply: Direction = field(default_factory=Direction)
    is_half_close: bool = False
    is_reset: bool = False


class _LineCut(Exception):
    """This way ended where its fault said."""


@final
class Faultline:
    """Listens on a free port of 127.0.0.1 while entered and passes on to `host`:`port`."""

    def __init__(self, *, host: str = "127.0.0.1", port: int) -> None:
        self._target = (host, port)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._lines: set[asyncio.Task[None]] = set()
        self.fault = Fault()
        self.accepted = 0

    @property
    def port(self) -> int:
        """Where clients connect."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.reset_all()
        for line in self._lines:
            line.cancel()
        if self._lines:
            await asyncio.wait(self._lines)

    def reset_all(self) -> None:
        """End every connection there is with a reset."""
        for writer in self._writers:
            reset(writer.transport)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._lines.add(task)
        self.accepted += 1
        # The line itself may be taken down while bytes are held at a gate.
        with contextlib.suppress(asyncio.CancelledError):
            await self._pass_both_ways(reader, writer)

    async def _pass_both_ways(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        fault = self.fault
        if fault.is_refusing:
            reset(writer.transport)
            return
        far_reader, far_writer = await asyncio.open_connection(*self._target)
        ends = (writer, far_writer)
        self._writers.update(ends)
        is_reset = False
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_pass_on(reader, far_writer, fault, fault.request))
                group.create_task(_pass_on(far_reader, writer, fault, fault.reply))
        except* _LineCut:
            is_reset = fault.is_reset
        except* ConnectionError:
            is_reset = True
        for end in ends:
            if is_reset:
                reset(end.transport)
            else:
                end.close()
        self._writers.difference_update(ends)


async def _pass_on(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, fault: Fault, way: Direction
) -> None:
    """Pass bytes one way until their sender ends it or the fault cuts it."""
    passed = 0
    while chunk := await reader.read(_CHUNK_BYTES):
        if way.gate is not None:
            await way.gate.wait()
        if way.cut_after is not None:
            chunk = chunk[: way.cut_after - passed]
        passed += len(chunk)
        writer.write(chunk)
        await writer.drain()
        if way.cut_after is not None and passed >= way.cut_after:
            if not fault.is_half_close:
                raise _LineCut
            break
    if writer.can_write_eof() and not writer.is_closing():
        writer.write_eof()
