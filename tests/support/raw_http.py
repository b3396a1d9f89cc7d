"""HTTP on raw sockets: a scripted upstream and a client, both to the byte.

Neither knows the sidecar; what goes over the wire is recorded and compared as it is.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import final

from tests.support.resets import reset

HEAD_END = b"\r\n\r\n"
_LIMIT_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class RawHead:
    """A start line and header fields as they came."""

    start_line: bytes
    headers: tuple[tuple[bytes, bytes], ...]

    @classmethod
    def parse(cls, head: bytes) -> RawHead:
        start_line, *lines = head.removesuffix(HEAD_END).split(b"\r\n")
        headers = tuple(
            (name, value) for name, _, value in (line.partition(b": ") for line in lines)
        )
        return cls(start_line=start_line, headers=headers)

    def values(self, name: bytes) -> list[bytes]:
        """Return the values of a field (`name` in lower case), in order."""
        return [value for key, value in self.headers if key.lower() == name]

    def names(self) -> list[bytes]:
        """Return the names of all fields as they came."""
        return [name for name, _ in self.headers]


@dataclass(frozen=True, slots=True, kw_only=True)
class RawMessage:
    """A head and its body, unframed."""

    head: RawHead
    body: bytes = b""

    @property
    def status(self) -> int:
        return int(self.head.start_line.split(b" ", 2)[1])

    def value(self, name: bytes) -> bytes:
        """Return the only value of a field; fail if it is not there exactly once."""
        (value,) = self.head.values(name)
        return value


async def read_head(reader: asyncio.StreamReader) -> RawHead:
    return RawHead.parse(await reader.readuntil(HEAD_END))


async def read_body(head: RawHead, reader: asyncio.StreamReader, *, is_request: bool) -> bytes:
    """Read a body as its head frames it; an answer without framing ends with the connection."""
    lengths = head.values(b"content-length")
    if lengths:
        return await reader.readexactly(int(lengths[0]))
    if head.values(b"transfer-encoding"):
        parts: list[bytes] = []
        while size := int(await reader.readline(), 16):
            parts.append(await reader.readexactly(size))
            assert await reader.readexactly(2) == b"\r\n"
        assert await reader.readline() == b"\r\n"
        return b"".join(parts)
    return b"" if is_request else await reader.read()


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request at the scripted upstream, its body still unread."""

    head: RawHead
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def read_body(self) -> bytes:
        return await read_body(self.head, self.reader, is_request=True)

    async def wait_for_close(self) -> None:
        """Return once the peer is gone, cleanly or not."""
        try:
            while await self.reader.read(65536):
                pass
        except ConnectionError:
            return

    def abort(self) -> None:
        self.writer.transport.abort()

    def reset(self) -> None:
        """End the connection so that the peer sees a reset."""
        reset(self.writer.transport)

    def on_wire(self, act: Callable[[socket.socket], object]) -> None:
        """Do something with the socket itself, past TLS and past the loop."""
        own: socket.socket = self.writer.get_extra_info("socket")
        with socket.socket(fileno=os.dup(own.fileno())) as duplicate:
            act(duplicate)


Step = bytes | Callable[[Asked], Awaitable[None]]


@final
@dataclass(slots=True, kw_only=True)
class RawUpstream:
    """Answers each request with the next step of a script; the last step repeats itself."""

    script: Sequence[Step]
    requests: list[RawMessage] = field(default_factory=list[RawMessage])
    connections: int = 0
    closed_connections: int = 0
    port: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while not reader.at_eof():
                await self._answer(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            self.closed_connections += 1
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await read_head(reader)
        number = len(self.requests)
        step = self.script[min(number, len(self.script) - 1)]
        if isinstance(step, bytes):
            self.requests.append(RawMessage(head=head))
            body = await read_body(head, reader, is_request=True)
            self.requests[number] = RawMessage(head=head, body=body)
            writer.write(step)
            await writer.drain()
        else:
            self.requests.append(RawMessage(head=head))
            await step(Asked(head=head, reader=reader, writer=writer))


@asynccontextmanager
async def running_upstream(
    *script: Step, tls: ssl.SSLContext | None = None
) -> AsyncGenerator[RawUpstream]:
    """Serve a script on a free port of loopback."""
    upstream = RawUpstream(script=script)
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0, limit=_LIMIT_BYTES, ssl=tls)
    upstream.port = server.sockets[0].getsockname()[1]
    try:
        yield upstream
    finally:
        server.close()


def answer(
    body: bytes = b"{}", *headers: bytes, status: bytes = b"200 OK", length: bool = True
) -> bytes:
    """Return a whole answer; `length` frames it."""
    lines = [b"HTTP/1.1 " + status, *headers]
    if length:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + HEAD_END + body


@final
class RawClient:
    """A connection to the sidecar."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def send_apart(self, segments: Sequence[bytes], *, pause_s: float = 0.05) -> None:
        """Send segments so that they arrive apart."""
        for segment in segments:
            await self.send(segment)
            await asyncio.sleep(pause_s)

    async def drip(self, *, every_s: float) -> None:
        """Send a byte now and then, until cancelled."""
        while True:
            await asyncio.sleep(every_s)
            if not self.writer.is_closing():
                self.writer.write(b"a")

    def hold_back(self) -> None:
        """Read nothing from now on."""
        self._transport.pause_reading()

    def go_on(self) -> None:
        """Read again."""
        self._transport.resume_reading()

    @property
    def _transport(self) -> asyncio.Transport:
        return self.writer.transport  # type: ignore[return-value]  # typed for writing only

    async def read_head(self) -> RawHead:
        return await read_head(self.reader)

    async def read_answer(self, *, has_body: bool = True) -> RawMessage:
        head = await self.read_head()
        body = await read_body(head, self.reader, is_request=False) if has_body else b""
        return RawMessage(head=head, body=body)

    async def ask(self, request: bytes, *, has_body: bool = True) -> RawMessage:
        await self.send(request)
        return await self.read_answer(has_body=has_body)

    async def is_closed_by_peer(self) -> bool:
        """Wait for the end of the connection; False if anything but the end comes."""
        try:
            return await self.reader.read(1) == b""
        except ConnectionError:
            return True

    def abort(self) -> None:
        self.writer.transport.abort()

    def reset(self) -> None:
        """End the connection so that the peer sees a reset, whatever was read of it."""
        reset(self.writer.transport)


@asynccontextmanager
async def connected(port: int = 0, *, path: str | None = None) -> AsyncGenerator[RawClient]:
    """Open a connection to a port of loopback or to a unix socket."""
    if path is None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=_LIMIT_BYTES)
    else:
        reader, writer = await asyncio.open_unix_connection(path, limit=_LIMIT_BYTES)
    try:
        yield RawClient(reader, writer)
    finally:
        writer.close()


def request(
    *headers: bytes,
    line: bytes = b"GET /balances/v2/mikomo HTTP/1.1",
    user: bytes | None = b"u-1",
    body: bytes = b"",
) -> bytes:
    """Return a request of the client next door."""
    lines = [line, b"Host: sidecar"]
    if user is not None:
        lines.append(b"Sidecar-User: " + user)
    return b"\r\n".join([*lines, *headers]) + HEAD_END + body
