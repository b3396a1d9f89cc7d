"""A Sentinel that says what a test lets it say, in as much of Redis' protocol as that takes."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self, final


@final
class ScriptedSentinel:
    """Listens on a free port of 127.0.0.1 while entered.

    Attributes:
        named: The port of the primary, or ``None``: it knows of none.
        is_silent: Whether it answers nothing at all.
    """

    def __init__(self) -> None:
        self.named: int | None = None
        self.is_silent = False
        self._server: asyncio.Server | None = None

    @property
    def port(self) -> int:
        """Where it listens."""
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readline():
            words = [await _word(reader) for _ in range(int(head[1:]))]
            if not self.is_silent:
                writer.write(self._answer(words))
        writer.close()

    def _answer(self, words: list[bytes]) -> bytes:
        if words[0].upper() != b"SENTINEL":
            return b"+PONG\r\n" if words[0].upper() == b"PING" else b"+OK\r\n"
        if self.named is None:
            return b"*-1\r\n"
        port = str(self.named).encode()
        return b"*2\r\n$9\r\n127.0.0.1\r\n$%d\r\n%s\r\n" % (len(port), port)


async def _word(reader: asyncio.StreamReader) -> bytes:
    size = int((await reader.readline())[1:])
    return (await reader.readexactly(size + 2))[:-2]
