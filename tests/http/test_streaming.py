from __future__ import annotations

import asyncio

from tests.support.proxy_process import running_process
from tests.support.proxy_rig import running_proxy
from tests.support.raw_http import Asked, RawClient, answer, request, running_upstream
from tests.support.wait import until

POST = b"POST /payments/v2/mikomo HTTP/1.1"
MIB = 1 << 20
LARGE_BYTES = 256 * MIB
CHUNK = bytes(256 * 1024)
# More than the kernel buffers of two hops hold at their largest; far less than what is sent.
BOUND_BYTES = 96 * MIB
GIGABYTE = 1024 * MIB
GROWTH_BYTES = 20 * MIB


async def test_the_head_and_the_first_bytes_do_not_wait_for_the_rest() -> None:
    """A stream is a stream: what the upstream has sent so far is at the client."""
    go_on = asyncio.Event()

    async def dribble(asked: Asked) -> None:
        asked.writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        await go_on.wait()
        go_on.clear()
        asked.writer.write(b"3\r\none\r\n")
        await go_on.wait()
        asked.writer.write(b"3\r\ntwo\r\n0\r\n\r\n")
        await asked.writer.drain()

    async with running_proxy(dribble) as rig, rig.client() as client:
        await client.send(request())
        head = await client.read_head()
        go_on.set()
        first = await client.reader.readexactly(8)
        go_on.set()
        rest = await client.reader.readexactly(13)

    assert head.start_line == b"HTTP/1.1 200 OK"
    assert (first, rest) == (b"3\r\none\r\n", b"3\r\ntwo\r\n0\r\n\r\n")


async def test_a_large_body_reaches_the_upstream_while_it_comes_in() -> None:
    """An upload is not collected first: its beginning is there before its end is sent."""
    got = asyncio.Event()

    async def read_slowly(asked: Asked) -> None:
        await asked.reader.readexactly(100_000)
        got.set()
        await asked.reader.readexactly(100_000)
        asked.writer.write(answer(b"thanks"))
        await asked.writer.drain()

    async with running_proxy(read_slowly) as rig, rig.client() as client:
        await client.send(request(b"Content-Length: 200000", line=POST, body=bytes(100_000)))
        async with asyncio.timeout(5):
            await got.wait()
        await client.send(bytes(100_000))
        reply = await client.read_answer()

    assert (reply.body, rig.completed[0].bytes_in) == (b"thanks", 200_000)


async def test_a_stalled_client_stalls_the_upstream() -> None:
    """What nobody reads is not fetched, and goes on when somebody does."""
    sent = 0
    is_stalled = False

    async def send_much(asked: Asked) -> None:
        nonlocal sent, is_stalled
        asked.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LARGE_BYTES)
        while sent < LARGE_BYTES:
            asked.writer.write(CHUNK)
            sent += len(CHUNK)
            try:
                async with asyncio.timeout(0.3):
                    await asked.writer.drain()
            except TimeoutError:
                is_stalled = True
                await asked.writer.drain()

    async with running_proxy(send_much) as rig, rig.client() as client:
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await client.send(request())
        await until(lambda: is_stalled, within_s=30, what="the upstream to stall")
        sent_while_stalled = sent
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        await client.read_head()
        received = await swallow(client, LARGE_BYTES)

    assert sent_while_stalled < BOUND_BYTES
    assert received == LARGE_BYTES


async def test_a_stalled_upstream_stalls_the_client() -> None:
    """What the upstream does not take is not taken from the client either."""
    release = asyncio.Event()
    received = 0

    async def wait_then_read(asked: Asked) -> None:
        nonlocal received
        await release.wait()
        while received < LARGE_BYTES:
            received += len(await asked.reader.read(MIB))
        asked.writer.write(answer(b"all"))
        await asked.writer.drain()

    async with running_proxy(wait_then_read) as rig, rig.client() as client:
        await client.send(request(b"Content-Length: %d" % LARGE_BYTES, line=POST))
        sent = sent_while_stalled = 0
        while sent < LARGE_BYTES:
            sent += len(CHUNK)
            try:
                async with asyncio.timeout(0.5):
                    await client.send(CHUNK)
            except TimeoutError:
                sent_while_stalled = sent
                release.set()
                await client.send(b"")
        reply = await client.read_answer()

    assert 0 < sent_while_stalled < BOUND_BYTES
    assert (reply.body, received) == (b"all", LARGE_BYTES)


async def test_memory_does_not_grow_with_bodies() -> None:
    """A gigabyte down and one up leaves the process as small as it was."""

    async def send_or_take(asked: Asked) -> None:
        if asked.head.start_line.startswith(b"POST"):
            taken = 0
            while taken < GIGABYTE:
                taken += len(await asked.reader.read(MIB))
            asked.writer.write(answer(b"%d" % taken))
        else:
            asked.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % GIGABYTE)
            for _ in range(GIGABYTE // len(CHUNK)):
                asked.writer.write(CHUNK)
                await asked.writer.drain()
        await asked.writer.drain()

    async with (
        running_upstream(answer(), send_or_take) as upstream,
        running_process(upstream.port) as process,
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", process.port, limit=MIB)
        client = RawClient(reader, writer)
        await client.ask(request())
        before = process.peak_memory_bytes()
        await client.send(request())
        await client.read_head()
        received = await swallow(client, GIGABYTE)
        await client.send(request(b"Content-Length: %d" % GIGABYTE, line=POST))
        for _ in range(GIGABYTE // len(CHUNK)):
            await client.send(CHUNK)
        reply = await client.read_answer()
        after = process.peak_memory_bytes()
        writer.close()

    assert received == GIGABYTE
    assert reply.body == b"%d" % GIGABYTE
    assert after - before < GROWTH_BYTES


async def swallow(client: RawClient, size: int) -> int:
    """Read and forget `size` bytes of a body."""
    received = 0
    while received < size:
        chunk = await client.reader.read(min(MIB, size - received))
        assert chunk, "the body broke"
        received += len(chunk)
    return received
