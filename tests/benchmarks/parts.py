"""The parts of the benchmark: an upstream with TLS, a bare pass-through, nginx, and a load.

Each runs as a process of its own on a core of its own, started by `tests.benchmarks.run`:
``python -m tests.benchmarks.parts upstream|bare|load …``. None of them imports the sidecar.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, cast

import aiohttp
import uvloop
from aiohttp import web
from yarl import URL

JSON_BYTES: Final = 4700
CHUNK_BYTES: Final = 65536
HOP_HEADERS: Final = frozenset({"connection", "keep-alive", "transfer-encoding", "host"})


def data_answer() -> bytes:
    """Return a whole HTTP answer with about 4.7 KB of JSON, as a data API gives it."""
    rows = [{"transactionId": f"t{number:05d}", "amount": number / 7} for number in range(96)]
    body = json.dumps({"transactions": rows}).encode()
    body += b" " * (JSON_BYTES - len(body))
    head = (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
        b"x-akoya-interaction-id: 00000000-0000-0000-0000-000000000000\r\n"
        b"Content-Length: %d\r\n\r\n" % len(body)
    )
    return head + body


class _Upstream(asyncio.Protocol):
    """Answers each request head with the same bytes."""

    answer = data_answer()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's TLS transport is no subclass of asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        self._tail = b""

    def data_received(self, data: bytes) -> None:
        data = self._tail + data
        heads = data.count(b"\r\n\r\n")
        self._tail = data.rpartition(b"\r\n\r\n")[2]
        if heads:
            self._transport.write(self.answer * heads)


async def serve_upstream(certificate: Path) -> None:
    """Serve the upstream on a free port, told on stdout, until killed."""
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate)
    server = await asyncio.get_running_loop().create_server(_Upstream, "127.0.0.1", 0, ssl=tls)
    _tell_port(server.sockets[0].getsockname()[1])
    await server.serve_forever()


async def serve_bare(upstream_url: str, authority: Path) -> None:
    """Serve a bare aiohttp pass-through: the least that streams a request and its answer."""
    tls = ssl.create_default_context(cafile=str(authority))
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=55, ttl_dns_cache=30, ssl=tls)
    session = aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
        timeout=aiohttp.ClientTimeout(total=None, connect=5, sock_read=30),
        skip_auto_headers=("Accept-Encoding", "User-Agent", "Accept"),
    )

    async def pass_on(request: web.BaseRequest) -> web.StreamResponse:
        headers = [(n, v) for n, v in request.headers.items() if n.lower() not in HOP_HEADERS]
        async with session.request(
            request.method,
            URL(f"{upstream_url}{request.raw_path}", encoded=True),
            headers=headers,
            data=request.content if request.body_exists else None,
            allow_redirects=False,
        ) as answer:
            reply = web.StreamResponse(status=answer.status, reason=answer.reason)
            for name, value in answer.headers.items():
                if name.lower() not in HOP_HEADERS:
                    reply.headers.add(name, value)
            await reply.prepare(request)
            async for chunk in answer.content.iter_chunked(CHUNK_BYTES):
                await reply.write(chunk)
            await reply.write_eof()
            return reply

    runner = web.ServerRunner(web.Server(pass_on))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    _tell_port(runner.addresses[0][1])
    await asyncio.Event().wait()


class _Caller(asyncio.Protocol):
    """Sends a request, waits for its whole answer, and sends the next one."""

    def __init__(self, requests: Callable[[], bytes | None], note: Callable[[float], None]) -> None:
        self._next_request = requests
        self._note = note
        self._received = bytearray()
        self._sent_at_s = 0.0
        self.ended = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's TLS transport is no subclass of asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, body = bytes(self._received).partition(b"\r\n\r\n")
        if not separator or len(body) < _content_length(head):
            return
        if not head.startswith(b"HTTP/1.1 200"):
            self._end(RuntimeError(head.partition(b"\r\n")[0].decode()))
            return
        self._note(time.perf_counter() - self._sent_at_s)
        self._received.clear()
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(exc or ConnectionResetError("the subject closed a connection"))

    def _send(self) -> None:
        request = self._next_request()
        if request is None:
            self._end(None)
            self._transport.close()
            return
        self._sent_at_s = time.perf_counter()
        self._transport.write(request)

    def _end(self, error: Exception | None) -> None:
        if self.ended.done():
            return
        if error is None:
            self.ended.set_result(None)
        else:
            self.ended.set_exception(error)


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    raise RuntimeError("an answer without Content-Length")


async def drive(port: int, *, seconds: float, callers: int, users: int, tls: str = "") -> None:
    """Load a subject and print ``{"requests", "seconds", "p50_s", "p99_s"}``.

    With `users` above 0 each of that many users is named once, however long it takes.
    """
    spans: list[float] = []
    until_s = time.perf_counter() + seconds
    numbers = iter(range(users))

    def next_request() -> bytes | None:
        if users:
            number = next(numbers, None)
            return None if number is None else _request(f"user-{number}")
        return None if time.perf_counter() > until_s else _WARM_REQUEST

    context = ssl.create_default_context(cafile=tls) if tls else None
    loop = asyncio.get_running_loop()
    started_s = time.perf_counter()
    made = [
        await loop.create_connection(
            lambda: _Caller(next_request, spans.append),
            "127.0.0.1",
            port,
            ssl=context,
            server_hostname="localhost" if tls else None,
        )
        for _ in range(callers)
    ]
    await asyncio.gather(*(caller.ended for _, caller in made))
    spans.sort()
    told = {
        "requests": len(spans),
        "seconds": time.perf_counter() - started_s,
        "p50_s": spans[len(spans) // 2],
        "p99_s": spans[len(spans) * 99 // 100],
    }
    sys.stdout.write(json.dumps(told) + "\n")


def _request(user: str) -> bytes:
    return (
        b"GET /transactions/v2/mikomo/513815781465?limit=50 HTTP/1.1\r\nHost: localhost\r\n"
        b"Accept: application/json\r\nUser-Agent: bench/1\r\n"
        b"x-akoya-interaction-type: user\r\nSidecar-User: " + user.encode() + b"\r\n\r\n"
    )


_WARM_REQUEST: Final = _request("user-0")


def _tell_port(port: int) -> None:
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()


def main(argv: list[str]) -> None:
    """Run one part."""
    match argv:
        case ["upstream", certificate]:
            uvloop.run(serve_upstream(Path(certificate)))
        case ["bare", upstream_url, authority]:
            uvloop.run(serve_bare(upstream_url, Path(authority)))
        case ["load", port, seconds, callers, users, tls]:
            uvloop.run(
                drive(
                    int(port),
                    seconds=float(seconds),
                    callers=int(callers),
                    users=int(users),
                    tls=tls,
                )
            )
        case _:
            raise SystemExit("upstream CERTIFICATE | bare URL CA | load PORT S CALLERS USERS CA")


if __name__ == "__main__":
    main(sys.argv[1:])
