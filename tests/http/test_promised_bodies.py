"""What the head of a request promises is what is sent, or its connection carries nothing more."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sidecar.domain.tokens import ProblemReason
from sidecar.domain.upstream_failures import UpstreamCause
from sidecar.http.upstream import UploadStopped, UpstreamAnswer, UpstreamFailed
from tests.support.asking import asking, question
from tests.support.proxy_rig import running_proxy
from tests.support.raw_http import Asked, answer, request, running_upstream
from tests.support.wait import has_come_to_rest, until

GET = b"GET /balances/v2/mikomo HTTP/1.1"
POST = b"POST /payments/v2/mikomo HTTP/1.1"
HUGE = 2**64 - 1


@dataclass(slots=True, kw_only=True)
class ScriptedUpload:
    """A body that comes in these pieces, whatever it promised; ``None`` stops it."""

    length: int | None
    pieces: Sequence[bytes | None]
    taken: list[bytes] = field(default_factory=list[bytes])
    go_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def next_chunk(self) -> bytes:
        await self.go_on.wait()
        if len(self.taken) == len(self.pieces):
            return b""
        piece = self.pieces[len(self.taken)]
        if piece is None:
            raise UploadStopped
        self.taken.append(piece)
        return piece


UNTRUE: dict[str, tuple[int | None, list[bytes | None]]] = {
    "nothing of 2^64-1": (HUGE, []),
    "nothing": (10, []),
    "less": (10, [b"12345"]),
    "one octet less": (10, [b"12345", b"6789"]),
    "one octet more": (10, [b"12345", b"67890x"]),
    "more": (10, [b"12345", b"67890", b"GET /evil HTTP/1.1\r\n\r\n"]),
    "more at once": (1, [b"1GET /evil HTTP/1.1\r\n\r\n"]),
    "stopped": (10, [b"12345", None]),
    "stopped chunks": (None, [b"12345", None]),
}


@pytest.mark.parametrize("is_answered_early", [False, True], ids=["late", "early"])
@pytest.mark.parametrize(("length", "pieces"), UNTRUE.values(), ids=UNTRUE)
async def test_an_upload_that_breaks_its_promise_ends_its_connection(
    length: int | None, pieces: list[bytes | None], *, is_answered_early: bool
) -> None:
    """The next request goes out on another connection, and none runs that was never asked for."""
    received = b""

    async def take_everything(asked: Asked) -> None:
        nonlocal received
        if is_answered_early:
            asked.writer.write(answer(b"early"))
        try:
            while part := await asked.reader.read(65536):
                received += part
        except ConnectionError:
            return

    upload = ScriptedUpload(length=length, pieces=pieces)
    if not is_answered_early:
        upload.go_on.set()
    async with (
        running_upstream(take_everything, answer(b"next")) as there,
        asking(there.port) as upstream,
    ):
        first = await upstream.ask(question("POST", body=upload))
        if isinstance(first, UpstreamAnswer):
            upload.go_on.set()
            await until(lambda: there.closed_connections == 1, within_s=10, what="the close")
            first.close()
        second = await upstream.ask(question())
        assert isinstance(second, UpstreamAnswer)
        assert await second.body.read() == b"next"
        second.close()

    assert isinstance(first, UpstreamAnswer) is is_answered_early
    assert (there.connections, len(there.requests)) == (2, 2)
    assert b"evil" not in received
    assert there.requests[1].head.values(b"authorization") == [b"Bearer token-1"]


async def test_an_upload_that_keeps_its_promise_leaves_its_connection() -> None:
    """Counting costs nothing: a body of just the promised length is followed by the next."""
    upload = ScriptedUpload(length=10, pieces=[b"12345", b"67890"])
    upload.go_on.set()
    async with running_upstream(answer(b"1"), answer(b"2")) as there, asking(there.port) as it:
        for body in (upload, None):
            got = await it.ask(question("POST", body=body))
            assert isinstance(got, UpstreamAnswer)
            await got.body.read()
            got.close()

    assert (there.connections, there.requests[0].body) == (1, b"1234567890")


@pytest.mark.parametrize("line", [GET, POST], ids=["get", "post"])
@pytest.mark.parametrize("length", [HUGE, HUGE - 1, 2**63, 2**63 - 1], ids=hex)
async def test_the_next_request_is_no_body_of_the_last(line: bytes, length: int) -> None:
    """A huge length without a body takes no other user's request, bearer included, for its body."""
    head = request(b"Content-Length: %d" % length, line=line)
    async with running_proxy(answer(b"mine")) as rig, rig.client() as evil, rig.client() as other:
        await evil.send(head)
        await until(lambda: bool(rig.source.keys) or bool(rig.completed), within_s=5, what="it")
        got = await other.ask(request(user=b"u-2"))

    assert (got.status, got.body) == (200, b"mine")
    assert [asked.body for asked in rig.upstream.requests] == [b""]
    assert not rig.upstream.requests[0].head.values(b"content-length")


async def test_a_body_that_is_not_there_is_a_fault_of_the_client() -> None:
    """What the parser takes for no body is not forwarded with the length that it came with."""
    async with running_proxy(answer()) as rig, rig.client() as client:
        got = await client.ask(request(b"Content-Length: %d" % HUGE, line=POST))

    assert (got.status, got.value(b"sidecar-error")) == (400, b"request_invalid")
    assert rig.upstream.requests == []
    assert rig.completed[0].reason is ProblemReason.REQUEST_INVALID
    assert rig.completed[0].cause is None


@pytest.mark.parametrize("line", [GET, POST], ids=["get", "post"])
async def test_a_length_of_nothing_goes_on(line: bytes) -> None:
    """Strict servers answer a POST without a length with 411."""
    async with running_proxy(answer(b"1"), answer(b"2")) as rig, rig.client() as client:
        first = await client.ask(request(b"Content-Length: 0", line=line))
        second = await client.ask(request(line=line))

    assert (first.body, second.body) == (b"1", b"2")
    assert rig.upstream.requests[0].head.values(b"content-length") == [b"0"]
    assert rig.upstream.requests[1].head.values(b"content-length") == []
    assert rig.upstream.connections == 1


async def test_a_request_whose_connection_is_cut_by_us_is_not_asked_again() -> None:
    """A broken promise on a connection of the pool is no closed connection of the upstream."""
    upload = ScriptedUpload(length=9, pieces=[b"1"])
    upload.go_on.set()
    async with running_upstream(answer(b"1"), answer(b"2")) as there, asking(there.port) as it:
        first = await it.ask(question())
        assert isinstance(first, UpstreamAnswer)
        await first.body.read()
        first.close()
        got = await it.ask(question("POST", body=upload))

    assert isinstance(got, UpstreamFailed)
    assert got.cause is UpstreamCause.CLOSED
    assert len(there.requests) == 2


async def test_an_upload_that_nobody_reads_leaves_no_connection_behind() -> None:
    """A client leaves while the upstream takes nothing: what is buffered holds no descriptor."""
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        before = open_descriptors()
        async with asking(deaf.getsockname()[1]) as upstream:
            upload = ScriptedUpload(length=None, pieces=[bytes(1 << 20)] * 64)
            upload.go_on.set()
            asked = asyncio.ensure_future(upstream.ask(question("POST", body=upload)))
            await until(lambda: bool(upload.taken), within_s=20, what="the upload to begin")
            await has_come_to_rest(lambda: len(upload.taken))
            under_way = open_descriptors()

            asked.cancel()
            await asyncio.wait([asked])
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            left = open_descriptors()

    assert under_way > before
    assert left == before


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
