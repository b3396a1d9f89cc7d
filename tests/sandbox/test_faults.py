"""Each fault does what it says, as often as it says, to whom it says, and to nobody else."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from sidecar.sandbox import Fault, Sandbox, SandboxSettings
from sidecar.sandbox.faults import FaultBook
from tests.sandbox.driver import APP, AppDriver
from tests.support.wait import until

if TYPE_CHECKING:
    from sidecar.sandbox.faults import Kind

_ACCOUNTS = "/accounts/v2/mikomo"
_CLAIMED = "Refresh token is invalid or has already been claimed by another client."


def _refresh_bytes(token: str) -> bytes:
    body = "&".join(
        f"{name}={value}"
        for name, value in {
            "grant_type": "refresh_token", "refresh_token": token, **APP
        }.items()
    ).encode()  # fmt: skip
    head = (
        f"POST /token HTTP/1.1\r\nHost: sandbox\r\nContent-Length: {len(body)}\r\n"
        "Content-Type: application/x-www-form-urlencoded\r\n\r\n"
    )
    return head.encode() + body


async def _raw(sandbox: Sandbox, request: bytes) -> bytes:
    """Send bytes and read to the end of the connection."""
    host, port = sandbox.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(request)
        return await reader.read()
    finally:
        writer.close()


async def test_drop_before_resets_and_processes_nothing(app: AppDriver, sandbox: Sandbox) -> None:
    """The connection is reset, and the token is as good as before."""
    pair = await app.connect("mikomo_10")
    await app.arm(operation="refresh", kind="drop_before")

    with pytest.raises(ConnectionResetError):
        await _raw(sandbox, _refresh_bytes(pair.refresh_token))

    assert (await app.refresh(pair.refresh_token)).status == 200


async def test_drop_after_rotates_and_resets(app: AppDriver, sandbox: Sandbox) -> None:
    """The token is spent, and its successor is lost with the answer."""
    pair = await app.connect("mikomo_10")
    await app.arm(operation="refresh", kind="drop_after")

    with pytest.raises(ConnectionResetError):
        await _raw(sandbox, _refresh_bytes(pair.refresh_token))
    again = await app.refresh(pair.refresh_token)

    assert again.json["error_description"] == _CLAIMED


@pytest.mark.parametrize("after_bytes", [0, 1, 100])
async def test_cut_after_rotates_and_sends_that_many_bytes(
    app: AppDriver, sandbox: Sandbox, after_bytes: int
) -> None:
    """The head promises the whole body; so many bytes of it come; the token is spent."""
    pair = await app.connect("mikomo_10")
    await app.arm(operation="refresh", kind="cut_after", after_bytes=after_bytes)

    raw = await _raw(sandbox, _refresh_bytes(pair.refresh_token))

    head, _, body = raw.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert b"content-length: " in head.lower()
    assert len(body) == after_bytes
    assert (await app.refresh(pair.refresh_token)).status == 400
    assert (await app.entries())[0]["answer"] == "cut"


@pytest.mark.parametrize("kind", ["slow_before", "slow_after"])
async def test_a_slow_answer_is_late_and_whole(app: AppDriver, kind: str) -> None:
    """A slow fault costs its delay and nothing else."""
    pair = await app.connect("mikomo_10")
    await app.arm(operation="refresh", kind=kind, delay_s=0.15)

    began = time.monotonic()
    answered = await app.refresh(pair.refresh_token)

    assert time.monotonic() - began >= 0.15
    assert answered.status == 200


async def test_a_slow_fault_before_leaves_the_token_to_others_meanwhile(app: AppDriver) -> None:
    """Slow before means before: while one presentation waits, another can win the token."""
    pair = await app.connect("mikomo_10")
    await app.arm(operation="refresh", kind="slow_before", delay_s=0.3)

    async with asyncio.TaskGroup() as group:
        slow = group.create_task(app.refresh(pair.refresh_token))
        listing: list[Any] = []
        while not listing or listing[0]["hits"] == 0:
            listing = (await app.send("GET", "/sandbox/faults")).json["faults"]
        quick = group.create_task(app.refresh(pair.refresh_token))

    assert (slow.result().status, quick.result().status) == (400, 200)


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_status_before_answers_and_processes_nothing(app: AppDriver, status: int) -> None:
    """The status comes with Retry-After if asked for, and the token is not spent."""
    pair = await app.connect("mikomo_10")
    await app.arm(operation="refresh", kind="status_before", status=status, retry_after_s=7)

    answered = await app.refresh(pair.refresh_token)

    assert (answered.status, answered.headers["Retry-After"]) == (status, "7")
    assert (await app.refresh(pair.refresh_token)).status == 200


async def test_status_after_rotates_and_says_it_failed(app: AppDriver) -> None:
    """A 5xx that lies: the token is spent."""
    pair = await app.connect("mikomo_10")
    await app.arm(operation="refresh", kind="status_after", status=502)

    answered = await app.refresh(pair.refresh_token)

    assert answered.status == 502
    assert (await app.refresh(pair.refresh_token)).status == 400


async def test_html_comes_with_200_or_the_status_asked_for(app: AppDriver) -> None:
    """A page of an edge in between is no token set, and nothing is processed."""
    pair = await app.connect("mikomo_10")
    await app.arm(operation="refresh", kind="html")
    await app.arm(operation="refresh", kind="html", status=502)

    pages = [await app.refresh(pair.refresh_token) for _ in range(2)]

    assert [page.status for page in pages] == [200, 502]
    assert all(page.headers["Content-Type"] == "text/html" for page in pages)
    assert (await app.refresh(pair.refresh_token)).status == 200


async def test_a_redirect_is_told_and_its_arrivals_are_counted(app: AppDriver) -> None:
    """A 307 leads elsewhere, where a client that follows it with its secrets is noticed."""
    pair = await app.connect("mikomo_10")
    await app.arm(operation="refresh", kind="redirect", times=2)
    form = {"grant_type": "refresh_token", "refresh_token": pair.refresh_token, **APP}

    told = await app.refresh(pair.refresh_token)
    await app.send("POST", "/token", data=form, allow_redirects=True)
    elsewhere = (await app.send("GET", "/sandbox/faults")).json["elsewhere"]

    assert (told.status, told.headers["Location"]) == (307, "/elsewhere")
    assert elsewhere == {"arrivals": 1, "with_authorization": 0, "with_body": 1}


async def test_an_error_is_answered_word_for_word(app: AppDriver) -> None:
    """Any status, error and description can be put into the service's mouth."""
    pair = await app.connect("mikomo_10")
    error = {"error": "token_inactive", "error_description": "Token is inactive: 1 > 0."}
    await app.arm(operation="refresh", kind="error", status=401, **error)

    answered = await app.refresh(pair.refresh_token)

    assert (answered.status, answered.json) == (401, error)


async def test_a_body_is_answered_as_it_is(app: AppDriver) -> None:
    """A literal body goes out unchanged under its content type."""
    pair = await app.connect("mikomo_10")
    literal = {"body": '{"id_token": ', "content_type": "text/plain; charset=utf-8"}
    await app.arm(operation="refresh", kind="body", status=200, **literal)

    answered = await app.refresh(pair.refresh_token)

    assert answered.body == b'{"id_token": '
    assert answered.headers["Content-Type"] == "text/plain; charset=utf-8"


async def test_omitted_fields_are_missing_though_the_token_is_spent(app: AppDriver) -> None:
    """The answer lacks the named members; the rotation behind it is real."""
    pair = await app.connect("mikomo_10")
    await app.arm(operation="refresh", kind="omit", fields=["refresh_token", "token_type"])

    answered = await app.refresh(pair.refresh_token)

    assert set(answered.json) == {"id_token", "expires_in"}
    assert (await app.refresh(pair.refresh_token)).status == 400


async def test_a_good_bearer_is_rejected_as_often_as_asked(app: AppDriver) -> None:
    """reject_bearer answers 401/602 so many times, then the bearer is good again."""
    pair = await app.connect("mikomo_10")
    await app.arm(operation="data", kind="reject_bearer", times=2)

    answers = [await app.get(_ACCOUNTS, pair) for _ in range(3)]

    assert [each.status for each in answers] == [401, 401, 200]
    assert answers[0].json == {"code": 602, "message": "Customer not authorized"}


async def test_data_faults_speak_the_data_apis_errors(app: AppDriver) -> None:
    """A failing status of a data call has a code and a message, not an OAuth error."""
    pair = await app.connect("mikomo_10")
    for status in (429, 500, 503):
        await app.arm(operation="data", kind="status_before", status=status)

    answers = [await app.get(_ACCOUNTS, pair) for _ in range(3)]

    assert [each.status for each in answers] == [429, 500, 503]
    assert [each.json["code"] for each in answers] == [1207, 500, 503]


async def test_a_fault_strikes_its_user_and_provider_only(app: AppDriver) -> None:
    """A fault for one user at one bank lets everybody else pass, and is not used up by them."""
    hit, other = await app.connect("mikomo_10", "bank-a"), await app.connect("mikomo_10", "bank-b")
    await app.arm(
        operation="any_token", kind="status_before", user="mikomo_10", provider="bank-a", times=0
    )

    passed = [
        await app.refresh(other.refresh_token),
        await app.exchange(await app.code("mikomo_7", "bank-a")),
        await app.get("/accounts/v2/bank-a", hit),
    ]
    struck = [
        await app.refresh(hit.refresh_token),
        await app.exchange(await app.code("mikomo_10", "bank-a")),
        await app.revoke(hit.refresh_token),
    ]

    assert [each.status for each in passed] == [200] * 3
    assert [each.status for each in struck] == [503] * 3


async def test_a_fault_ends_when_it_is_deleted(app: AppDriver) -> None:
    """One can be deleted by id, and all at once."""
    pair = await app.connect("mikomo_10")
    first = await app.arm(operation="data", kind="status_before", times=0)
    await app.arm(operation="data", kind="reject_bearer", times=0)

    before = await app.get(_ACCOUNTS, pair)
    await app.send("DELETE", f"/sandbox/faults?id={first}")
    between = await app.get(_ACCOUNTS, pair)
    await app.send("DELETE", "/sandbox/faults")
    after = await app.get(_ACCOUNTS, pair)

    assert [before.status, between.status, after.status] == [503, 401, 200]


def test_chance_strikes_when_the_draw_is_below_it() -> None:
    """A fault with a chance uses up a time only when it strikes."""
    draws = iter([0.9, 0.3, 0.29])
    book = FaultBook(draw=lambda: next(draws))
    fault = Fault(operation="any_token", kind="drop_before", chance=0.3)
    fault_id = book.add(fault)

    taken = [book.take("refresh", user=None, provider=None) for _ in range(4)]

    assert taken == [None, None, fault, None]
    assert book.hits(fault_id) == 1


@pytest.mark.parametrize("kind", ["slow_before", "slow_after", "drop_after", "status_before"])
async def test_leaving_the_sandbox_ends_every_wait(kind: Kind) -> None:
    """A request held by a fault for an hour is reset at once when the sandbox stops."""
    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
        async with Sandbox(SandboxSettings(key_bits=1024)) as sandbox:
            app = AppDriver(session, sandbox.url)
            pair = await app.connect("mikomo_10")
            fault = sandbox.faults.add(Fault(operation="refresh", kind=kind, delay_s=3600))
            held = group.create_task(_lost(app, pair.refresh_token))
            await until(lambda: sandbox.faults.hits(fault) == 1, within_s=30, what="the fault")
            began = time.monotonic()
        took_s = time.monotonic() - began

    assert held.result()
    assert took_s < 2


async def test_a_client_that_leaves_does_not_stop_the_rotation(
    app: AppDriver, sandbox: Sandbox
) -> None:
    """The request of a client that is gone is processed to its end."""
    pair = await app.connect("mikomo_10")
    fault = sandbox.faults.add(Fault(operation="refresh", kind="slow_before", delay_s=0.2))
    host, port = sandbox.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))

    writer.write(_refresh_bytes(pair.refresh_token))
    await until(lambda: sandbox.faults.hits(fault) == 1, within_s=30, what="the fault")
    writer.transport.abort()
    await until(lambda: len(sandbox.ledger) == 1, within_s=30, what="the presentation")

    (entry,) = sandbox.ledger
    assert (entry.outcome, entry.answer, entry.client_gone) == ("rotated", "sent", True)
    assert (await app.refresh(pair.refresh_token)).status == 400


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"operation": "refresh"}, "a fault needs kind"),
        ({"operation": "refresh", "kind": "explode"}, "kind must be one of"),
        ({"operation": "login", "kind": "html"}, "operation must be one of"),
        ({"operation": "refresh", "kind": "html", "colour": 1}, "a fault has no colour"),
        ({"operation": "refresh", "kind": "html", "times": "two"}, "times has the wrong type"),
        ({"operation": "refresh", "kind": "html", "times": -1}, "must be at least 0"),
        ({"operation": "refresh", "kind": "html", "status": 99}, "status must be 200 to 599"),
        ({"operation": "refresh", "kind": "reject_bearer"}, "for the operation data"),
        ("html", "a fault must be a JSON object"),
    ],
)
async def test_a_fault_that_is_none_is_refused_with_the_reason(
    app: AppDriver, fault: Any, reason: str
) -> None:
    """A misspelt fault must not pass for an armed one; of a list none is armed then."""
    good = {"operation": "data", "kind": "html"}

    answered = await app.send("POST", "/sandbox/faults", json=[good, fault])
    armed = (await app.send("GET", "/sandbox/faults")).json["faults"]

    assert answered.status == 400
    assert reason in answered.json["error"]
    assert armed == []


async def _lost(app: AppDriver, refresh_token: str) -> bool:
    try:
        await app.refresh(refresh_token)
    except aiohttp.ClientError:
        return True
    return False
