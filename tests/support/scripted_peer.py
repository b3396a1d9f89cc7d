"""A server whose every connection runs a script written in the test; sees how its client ends.

It must not know HTTP beyond where a request ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
from collections.abc import Awaitable, Callable
from enum import StrEnum
from types import TracebackType
from typing import Self, final

from tests.support.resets import reset


class Ending(StrEnum):
    """How the client let a connection go."""

    FIN = "fin"
    RESET = "reset"


@final
class PeerConnection:
    """One accepted connection; `received` grows as the script reads."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._socket = writer.get_extra_info("socket")
        self.received: bytearray = bytearray()
        self.request = b""
        self.ending: Ending | None = None

    async def read_request(self) -> bytes:
        """Read until the announced body is whole and return everything of the connection."""
        while True:
            head, end, body = bytes(self.received).partition(b"\r\n\r\n")
            length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
            if end and len(body) >= (int(length[1]) if length else 0):
                self.request = bytes(self.received)
                return self.request
            chunk = await self._reader.read(65536)
            if not chunk:
                raise EOFError
            self.received += chunk

    async def read_to_the_end(self) -> Ending:
        """Read until the client closes and return how it did."""
        try:
            while chunk := await self._reader.read(65536):
                self.received += chunk
        except ConnectionResetError:
            self.ending = Ending.RESET
        else:
            self.ending = Ending.FIN
        return self.ending

    async def write(self, data: bytes) -> None:
        """Send `data` and return once the kernel has taken it."""
        self._writer.write(data)
        await self._writer.drain()

    async def join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass bytes both ways between this connection and another until one of them ends."""

        async def pass_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionError):
                while chunk := await source.read(65536):
                    sink.write(chunk)
            sink.close()

        async with asyncio.TaskGroup() as group:
            group.create_task(pass_on(self._reader, writer))
            group.create_task(pass_on(reader, self._writer))

    def end_sending(self) -> None:
        """End the sending side alone."""
        self._writer.write_eof()

    def close(self) -> None:
        """End the connection normally."""
        self._writer.close()

    def close_below_tls(self) -> None:
        """End the sending side of the socket, without TLS' goodbye."""
        self._socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """End the connection with a reset."""
        reset(self._writer.transport)


Script = Callable[[PeerConnection], Awaitable[None]]


@final
class ScriptedPeer:
    """Listens on a free port of 127.0.0.1 while entered."""

    def __init__(self, script: Script, *, tls: ssl.SSLContext | None = None) -> None:
        self._script = script
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._scripts: set[asyncio.Task[None]] = set()
        self.connections: list[PeerConnection] = []

    @property
    def port(self) -> int:
        """Where it listens."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        """Scheme, host and port."""
        scheme, host = ("http", "127.0.0.1") if self._tls is None else ("https", "localhost")
        return f"{scheme}://{host}:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._tls)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        for connection in self.connections:
            connection.reset()
        if self._scripts:
            await asyncio.wait(self._scripts)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._scripts.add(task)
        connection = PeerConnection(reader, writer)
        self.connections.append(connection)
        # A client that leaves in the middle is what the tests are about; they look at `ending`.
        with contextlib.suppress(EOFError, ConnectionError):
            await self._script(connection)


async def turns(count: int) -> None:
    """Return after so many passes of the loop, in which it looked at its sockets."""
    loop = asyncio.get_running_loop()
    for _ in range(count):
        turned = loop.create_future()
        loop.call_soon(turned.set_result, None)
        await turned


def answer(body: bytes, *, status: str = "200 OK", headers: str = "") -> bytes:
    """Return a whole HTTP answer."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n{headers}\r\n".encode() + body
