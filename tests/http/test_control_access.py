"""Who may call the grants API, and what is refused before anything is asked of it."""

from __future__ import annotations

import asyncio

import pytest
from multidict import CIMultiDict

from sidecar.domain.events import WorkFailed
from sidecar.domain.throttle import PullBrake
from sidecar.domain.wire import Answered, TokenRequest
from sidecar.http.control_routes import Route
from tests.support.control_rig import (
    CONTROL_KEY,
    GRANT,
    ONBOARDING,
    OTHER_KEY,
    running_control,
)
from tests.support.scripted_idp import pair_answer
from tests.support.wait import until


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        f"Bearer {CONTROL_KEY}x",
        f"Bearer {CONTROL_KEY[:-1]}",
        f"Basic {CONTROL_KEY}",
        CONTROL_KEY,
        f"Bearer {CONTROL_KEY} {CONTROL_KEY}",
    ],
)
async def test_without_a_control_key_nothing_is_told(authorization: str | None) -> None:
    """No call, not even of a path that does not exist, is answered without a key."""
    headers = {} if authorization is None else {"Authorization": authorization}
    async with running_control() as control:
        await control.onboard()
        answers = [
            await control.ask("GET", path, headers=headers, key=None)
            for path in (GRANT, "/grants", "/events", "/nothing")
        ]

    for got in answers:
        assert (got.status, got.document["reason"]) == (401, "control_key_invalid")
        assert got.headers["WWW-Authenticate"].startswith("Bearer ")
    assert {event.client for event in control.completed[1:]} == {""}


async def test_two_keys_are_none() -> None:
    """Which of two credentials counts is a question that must not arise."""
    headers = CIMultiDict(
        [("Authorization", f"Bearer {CONTROL_KEY}"), ("Authorization", f"Bearer {OTHER_KEY}")]
    )
    async with (
        running_control() as control,
        control.session.get(f"http://127.0.0.1:{control.port}/events", headers=headers) as answer,
    ):
        assert answer.status == 401


async def test_a_client_that_asks_before_it_sends_its_body_is_told_to() -> None:
    """Curl sends `Expect` with larger bodies and would wait for a second in vain."""
    async with (
        running_control(pair_answer("refresh-0")) as control,
        asyncio.timeout(5),
        control.session.post(
            f"http://127.0.0.1:{control.port}/grants",
            json=ONBOARDING,
            headers={"Authorization": f"Bearer {CONTROL_KEY}"},
            expect100=True,
        ) as answer,
    ):
        assert answer.status == 201


async def test_each_key_is_known_by_its_name() -> None:
    """The log tells who called, by the name of the key and never by the key."""
    async with running_control() as control:
        for key in (CONTROL_KEY, OTHER_KEY):
            await control.ask("GET", "/events", key=key)

    assert [event.client for event in control.completed] == ["onboarding", "back-office"]
    assert [event.route for event in control.completed] == ["GET /events"] * 2


@pytest.mark.parametrize("route", Route)
async def test_a_path_takes_its_methods_only(route: Route) -> None:
    """Any other method is a problem that lists the methods of the path."""
    path = route.value.partition(" ")[2].format(provider="mikomo", user="u-1")
    async with running_control() as control:
        got = await control.ask("PATCH", path)

    assert (got.status, got.document["reason"]) == (405, "method_not_allowed")
    assert route.method in got.headers["Allow"].split(", ")
    assert ("HEAD" in got.headers["Allow"]) == ("GET" in got.headers["Allow"])


@pytest.mark.parametrize(
    "path",
    [
        "/index.html",
        "/grant",
        "/grants/",
        "/grants/mikomo",
        "/grants/mikomo/u-1/refresh/now",
        "//grants",
    ],
)
async def test_an_unknown_path_is_a_problem(path: str) -> None:
    """What is no call is not found, as problem+json like everything else."""
    async with running_control() as control:
        got = await control.ask("GET", path)

    assert (got.status, got.document["reason"]) == (404, "not_found")
    assert got.headers["Content-Type"] == "application/problem+json"


async def test_head_is_get_without_its_body() -> None:
    """A probe of a grant may ask with HEAD."""
    async with running_control() as control:
        await control.onboard()
        asked = await control.ask("GET", GRANT)
        got = await control.ask("HEAD", GRANT)

    assert (got.status, got.text) == (200, "")
    assert got.headers["Content-Length"] == asked.headers["Content-Length"]


async def test_no_answer_may_be_cached_or_tells_the_server() -> None:
    """Grants change at any time; what software answers is nobody's business."""
    async with running_control() as control:
        answers = [
            await control.onboard(),
            await control.ask("GET", GRANT),
            await control.ask("GET", "/grants/mikomo/nobody"),
        ]

    assert {got.headers["Cache-Control"] for got in answers} == {"no-store"}
    assert {got.headers["Server"] for got in answers} == {"akoya-sidecar"}


@pytest.mark.parametrize(("shown", "is_kept"), [("req-7", True), ("no good", False)])
async def test_a_call_keeps_its_id_if_it_is_one(*, shown: str, is_kept: bool) -> None:
    """The caller's id joins its logs with ours, in the answer, the problem and the event."""
    async with running_control() as control:
        got = await control.ask("GET", GRANT, headers={"X-Request-Id": shown})

    request_id = got.headers["X-Request-Id"]
    assert (request_id == shown) == is_kept
    assert got.document["request_id"] == request_id
    assert [event.request_id for event in control.completed] == [request_id]


async def test_a_call_is_told_with_its_trace() -> None:
    """An operator finds the call of a trace in the log, by its id."""
    headers = {"traceparent": f"00-{'a1' * 16}-{'b2' * 8}-01"}
    async with running_control() as control:
        await control.ask("GET", GRANT, headers=headers)
        await control.ask("GET", GRANT)

        assert [event.trace_id for event in control.completed] == ["a1" * 16, ""]


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin-1"],
)
async def test_a_body_must_be_json_and_say_so(content_type: str) -> None:
    """A form that happens to be JSON is refused: a browser could have sent it."""
    async with running_control() as control:
        got = await control.ask(
            "POST", "/grants", body=ONBOARDING, headers={"Content-Type": content_type}
        )

    assert (got.status, got.document["reason"]) == (415, "media_type_unsupported")
    assert control.rig.idp.requests == []


async def test_a_body_has_a_limit() -> None:
    """More than 64 KiB is refused, whether its length was told or not."""
    async with running_control() as control:
        told = await control.ask("POST", "/grants", body=b" " * 65537)
        exact = await control.ask("POST", "/grants", body=b" " * 65534 + b"{}")

    assert (told.status, told.document["reason"]) == (413, "request_too_large")
    assert (exact.status, exact.document["reason"]) == (400, "request_invalid")


@pytest.mark.parametrize(
    "body",
    [b"{", b"[]", b"null", b'"text"', b"\xff", b'{"user": NaN}', b"[" * 60000, b"1" * 5000],
    ids=range(8),
)
async def test_a_body_that_is_no_object_is_refused(body: bytes) -> None:
    """Whatever comes, it is read or refused, and never a fault of ours."""
    async with running_control() as control:
        got = await control.ask("POST", "/grants", body=body)

    assert (got.status, got.document["reason"]) == (400, "request_invalid")
    assert got.document["errors"][0]["name"] == "body"
    assert control.rig.parts.observer.of(WorkFailed) == []


async def test_all_that_is_wrong_is_said_at_once() -> None:
    """Nobody mends a request one refusal at a time."""
    body = b'{"user": "", "provider": "a/b", "code": 7, "kode": 1, "user": "x y"}'
    async with running_control(redirect_uri=None) as control:
        got = await control.ask("POST", "/grants?dry=run", body=body)

    named = [error["name"] for error in got.document["errors"]]
    assert got.status == 400
    assert sorted(named) == ["code", "dry", "kode", "provider", "redirect_uri", "user"]


async def test_a_draining_sidecar_ends_what_runs_and_takes_nothing_new() -> None:
    """While it stops, a call in flight gets its answer, and a new one is told to go elsewhere."""
    released = asyncio.Event()

    async def slowly(request: TokenRequest) -> Answered:
        del request
        await released.wait()
        return pair_answer("refresh-0")

    async with running_control(slowly) as control, asyncio.TaskGroup() as group:
        running = group.create_task(control.ask("POST", "/grants", body=ONBOARDING))
        await until(lambda: bool(control.rig.idp.sent), within_s=30, what="the exchange to start")
        control.api.drain()
        refused = await control.ask("GET", GRANT)
        is_waiting = control.api.in_flight
        released.set()
        ended = await running
        await control.api.drained()

    assert (refused.status, refused.document["reason"]) == (503, "draining")
    assert refused.headers["Connection"] == "close"
    assert "Retry-After" in refused.headers
    assert is_waiting == 1
    assert ended.status == 201


async def test_a_fault_of_ours_is_a_problem_and_is_reported() -> None:
    """An exception becomes 500 without its text, and an event for the operator."""
    async with running_control() as control:
        control.rig.store.records[control.rig.parts.grant()] = "canary, and no record"  # type: ignore[assignment]
        got = await control.ask("GET", GRANT)

    assert (got.status, got.document["reason"]) == (500, "internal_error")
    assert "canary" not in got.text
    assert [event.where for event in control.rig.parts.observer.of(WorkFailed)] == [
        "control.request"
    ]


async def test_a_person_lets_the_brake_go() -> None:
    """204 once the fleet's brake is off; 204 as well where it was off before."""
    async with running_control() as control:
        await control.rig.store.throttle(PullBrake())
        got = [await control.ask("POST", "/brake/release") for _ in range(2)]

    assert [(each.status, each.text) for each in got] == [(204, "")] * 2
    assert not control.rig.store.held_back.is_braked


async def test_a_brake_is_not_let_go_while_the_store_is_away() -> None:
    """503 with the obstacle: nobody is told that the fleet goes on when it does not."""
    async with running_control() as control:
        await control.rig.store.throttle(PullBrake())
        control.rig.store.is_available = False
        got = await control.ask("POST", "/brake/release")

    assert (got.status, got.document["obstacle"]) == (503, "store_away")
    assert control.rig.store.held_back.is_braked
