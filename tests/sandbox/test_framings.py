"""An answer of the sandbox goes out as a fault wants it framed, beside what, and ended."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from tests.sandbox.driver import APP, AppDriver

if TYPE_CHECKING:
    from sidecar.sandbox import Sandbox
    from sidecar.sandbox.framing import Framing

FRAMINGS: tuple[Framing, ...] = ("length", "chunked", "close")


def refresh_bytes(token: str) -> bytes:
    fields = {"grant_type": "refresh_token", "refresh_token": token, **APP}
    body = "&".join(f"{name}={value}" for name, value in fields.items()).encode()
    head = (
        f"POST /token HTTP/1.1\r\nHost: sandbox\r\nContent-Length: {len(body)}\r\n"
        "Content-Type: application/x-www-form-urlencoded\r\n\r\n"
    )
    return head.encode() + body


async def raw(sandbox: Sandbox, request: bytes) -> tuple[bytes, bool]:
    """Send bytes and read what comes; return whether a reset ended it as well."""
    host, port = sandbox.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    came = bytearray()
    writer.write(request)
    try:
        while chunk := await reader.read(65536):
            came += chunk
    except ConnectionResetError:
        return bytes(came), True
    finally:
        writer.close()
    return bytes(came), False


def unchunked(body: bytes) -> bytes:
    whole = bytearray()
    while body:
        size, _, body = body.partition(b"\r\n")
        whole += body[: int(size, 16)]
        body = body[int(size, 16) + 2 :]
    return bytes(whole)


@pytest.mark.parametrize("framing", FRAMINGS)
async def test_a_framed_answer_is_the_answer_and_its_connection_ends(
    app: AppDriver, sandbox: Sandbox, framing: Framing
) -> None:
    """A gateway between says the same in another way; the token is rotated as ever."""
    pair = await app.connect("mikomo_10")
    await app.arm(operation="refresh", kind="frame", framing=framing, beside="interim")

    came, is_reset = await raw(sandbox, refresh_bytes(pair.refresh_token))

    interim, _, answer = came.partition(b"\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert interim.startswith(b"HTTP/1.1 103 ")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert (b"Content-Length" in head) is (framing == "length")
    assert (b"Transfer-Encoding: chunked" in head) is (framing == "chunked")
    tokens = json.loads(unchunked(body) if framing == "chunked" else body)
    assert (await app.refresh(tokens["refresh_token"])).status == 200
    assert not is_reset
    first, _ = await app.entries()
    assert (first["answer"], first["status"], first["client_gone"]) == ("sent", 200, False)


@pytest.mark.parametrize("framing", FRAMINGS)
async def test_a_refusal_is_framed_as_well(
    app: AppDriver, sandbox: Sandbox, framing: Framing
) -> None:
    """Any fault that answers may say how; bytes that belong to nothing may follow."""
    pair = await app.connect("mikomo_10")
    await app.arm(
        operation="refresh", kind="status_before", status=429, framing=framing, beside="surplus"
    )

    came, _ = await raw(sandbox, refresh_bytes(pair.refresh_token))

    assert came.startswith(b"HTTP/1.1 429 Too Many Requests\r\n")
    assert came.endswith(b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n")
    assert (await app.entries())[0]["status"] == 429
    assert (await app.refresh(pair.refresh_token)).status == 200


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize(
    ("after_bytes", "expected"), [(0, "cut"), (40, "cut"), (-4, "cut"), (-1, "sent")]
)
async def test_an_answer_that_is_cut_before_its_token_is_whole_counts_as_lost(
    app: AppDriver, sandbox: Sandbox, framing: Framing, after_bytes: int, expected: str
) -> None:
    """Whoever reads the refresh token whole has lost nothing; the sandbox's answers end with it."""
    pair = await app.connect("mikomo_10")
    await app.arm(operation="refresh", kind="cut_after", framing=framing, after_bytes=after_bytes)

    came, _ = await raw(sandbox, refresh_bytes(pair.refresh_token))

    assert came.startswith(b"HTTP/1.1 200 OK\r\n")
    assert not came.endswith(b"}")
    assert (await app.entries())[0]["answer"] == expected
    assert (await app.refresh(pair.refresh_token)).status == 400


async def test_a_framed_answer_may_end_with_a_reset(app: AppDriver, sandbox: Sandbox) -> None:
    """A reset may overtake the answer, so the ledger does not count on it."""
    pair = await app.connect("mikomo_10")
    await app.arm(operation="refresh", kind="frame", framing="close", end="rst")

    _, is_reset = await raw(sandbox, refresh_bytes(pair.refresh_token))

    assert is_reset
    assert (await app.entries())[0]["answer"] == "cut"


@pytest.mark.parametrize(
    "wrong",
    [{"framing": "odd"}, {"framing": None}, {"framing": "close", "beside": "odd"}, {"end": "odd"}],
)
async def test_an_unknown_framing_is_told_by_name(
    app: AppDriver, wrong: dict[str, str | None]
) -> None:
    """A fault that would do nothing is no fault."""
    answered = await app.send(
        "POST",
        "/sandbox/faults",
        json={"operation": "refresh", "kind": "frame", **wrong},
    )

    assert answered.status == 400
    assert any(name in answered.json["error"] for name in (*wrong, "framing"))
