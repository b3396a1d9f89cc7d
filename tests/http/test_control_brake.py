"""The brake through the grants API: how it is, some grants let go, all let go."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from sidecar.domain.brake_trial import USUAL_LIMIT
from sidecar.domain.record import GrantId, GrantState
from sidecar.domain.throttle import (
    CountDecided,
    PullBrake,
    ReleaseAll,
    ReleaseBrake,
    ReserveSettlement,
)
from tests.support.control_rig import ControlRig, running_control

DOUBTED = 3


async def braked(control: ControlRig) -> None:
    """Have the brake pulled with a few grants in doubt."""
    record = (await control.onboard()).document["grant"]
    stands = control.rig.store.records[record]
    for number in range(DOUBTED):
        control.rig.store.records[GrantId(f"{number:032x}")] = replace(
            stands, state=GrantState.IN_DOUBT, hold_until_ms=control.rig.store.now_ms + 600_000
        )
    await control.rig.store.throttle(CountDecided(decided=30, denied=20))


async def test_the_brake_says_why_it_is_on_and_whom_it_holds_back() -> None:
    """What a person must know before anything is released, in one document."""
    async with running_control() as control:
        await braked(control)
        got = await control.ask("GET", "/brake")

    assert got.status == 200
    assert got.document["since"] is not None
    assert got.document["hint"].startswith("Find out why the tokens were refused")
    assert {name: got.document[name] for name in set(got.document) - {"since", "hint"}} == {
        "state": "on",
        "cause": "denials",
        "decided": 30,
        "denied": 20,
        "held_back": DOUBTED,
        "trial": None,
        "free_until": None,
    }


async def test_each_state_of_the_brake_is_shown() -> None:
    """Off, on trial with its progress, on again by the trial, and free until an instant."""
    async with running_control() as control:
        off = await control.ask("GET", "/brake")
        await braked(control)
        await control.rig.store.throttle(ReleaseBrake(limit=2))
        await control.rig.store.throttle(ReserveSettlement(grant=GrantId("0" * 32)))
        trial = await control.ask("GET", "/brake")
        await control.rig.store.throttle(ReserveSettlement(grant=GrantId("1" * 32)))
        failed = await control.ask("GET", "/brake")
        await control.rig.store.throttle(ReleaseAll())
        free = await control.ask("GET", "/brake")

    assert (off.document["state"], off.document["held_back"]) == ("off", None)
    assert (trial.document["state"], trial.document["held_back"]) == ("trial", DOUBTED)
    assert trial.document["trial"] == {"limit": 2, "decided": 1, "denied": 1}
    assert (failed.document["state"], failed.document["cause"]) == ("on", "trial")
    assert failed.document["trial"] == {"limit": 2, "decided": 2, "denied": 2}
    assert (free.document["state"], free.document["free_until"] is None) == ("free", False)


@pytest.mark.parametrize(
    ("body", "limit"), [({}, USUAL_LIMIT), ({"limit": None}, USUAL_LIMIT), ({"limit": 250}, 250)]
)
async def test_a_release_lets_some_grants_go(body: object, limit: int) -> None:
    """Ten, or as many as are asked for; the answer shows the trial, and waits for no count."""
    async with running_control() as control:
        await braked(control)
        got = await control.ask("POST", "/brake/release", body=body)

    assert (got.status, got.document["state"], got.document["held_back"]) == (200, "trial", None)
    assert got.document["trial"] == {"limit": limit, "decided": 0, "denied": 0}


async def test_a_release_without_a_body_is_answered_as_ever_and_lets_ten_go() -> None:
    """A script of the first version goes on, with the safe number."""
    async with running_control() as control:
        await braked(control)
        got = await control.ask("POST", "/brake/release")

    assert (got.status, got.text) == (204, "")
    trial = control.rig.store.held_back.trial
    assert trial is not None
    assert trial.limit == USUAL_LIMIT
    assert control.rig.store.held_back.free_until_ms == 0


async def test_all_are_released_by_an_operator_who_knows_how_many_they_are() -> None:
    """A wrong number releases nothing, and the answer has the right one."""
    async with running_control() as control:
        await braked(control)
        wrong = await control.ask("POST", "/brake/release", body={"all": True, "expected": 4})
        was_braked = control.rig.store.held_back.is_braked
        right = await control.ask("POST", "/brake/release", body={"all": True, "expected": DOUBTED})

    assert (wrong.status, wrong.document["reason"]) == (409, "count_differs")
    assert wrong.document["held_back"] == DOUBTED
    assert was_braked
    assert (right.status, right.document["state"]) == (200, "free")
    assert control.rig.store.held_back.free_until_ms > control.rig.store.now_ms
    assert control.rig.store.held_back.trial is None


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 1001}, "limit"),
        ({"limit": -1}, "limit"),
        ({"limit": 2.5}, "limit"),
        ({"limit": "10"}, "limit"),
        ({"limit": True}, "limit"),
        ({"limit": 10**400}, "limit"),
        ({"all": "yes"}, "all"),
        ({"all": True}, "expected"),
        ({"all": True, "expected": -1}, "expected"),
        ({"all": True, "expected": 1e300}, "expected"),
        ({"all": True, "expected": 3, "limit": 5}, "limit"),
        ({"expected": 3}, "expected"),
        ({"everything": True}, "everything"),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_a_release_that_is_not_clear_releases_nothing(
    body: dict[str, object], named: str
) -> None:
    """400 names the member; a slip of the pen must not let everybody go."""
    async with running_control() as control:
        await braked(control)
        got = await control.ask("POST", "/brake/release", body=body)

    assert (got.status, got.document["reason"]) == (400, "request_invalid")
    assert named in [error["name"] for error in got.document["errors"]]
    assert control.rig.store.held_back.is_braked


async def test_a_count_that_takes_long_is_shown_later_and_releases_nothing_late() -> None:
    """The brake is shown without it; a caller that left does not let all go by it."""
    async with running_control(exchange_wait_s=0.2) as control:
        await braked(control)
        scan, may_go_on = control.rig.store.scan, asyncio.Event()

        async def slow(cursor: str, limit: int) -> object:
            await may_go_on.wait()
            return await scan(cursor, limit)

        control.rig.store.scan = slow  # type: ignore[method-assign,assignment]
        shown = await control.ask("GET", "/brake")
        body = {"all": True, "expected": DOUBTED}
        early = await control.ask("POST", "/brake/release", body=body)
        may_go_on.set()
        counted = await control.ask("GET", "/brake")
        was_braked = control.rig.store.held_back.is_braked
        released = await control.ask("POST", "/brake/release", body=body)

    assert (shown.document["state"], shown.document["held_back"]) == ("on", None)
    assert (early.status, early.document["reason"]) == (503, "token_unavailable")
    assert "Retry-After" in early.headers
    assert counted.document["held_back"] == DOUBTED
    assert was_braked
    assert released.status == 200


async def test_callers_at_once_share_one_count() -> None:
    """A page that asks again and again does not read every record each time."""
    async with running_control() as control:
        await braked(control)
        scan, scans = control.rig.store.scan, list[str]()

        async def counted(cursor: str, limit: int) -> object:
            scans.append(cursor)
            return await scan(cursor, limit)

        control.rig.store.scan = counted  # type: ignore[method-assign,assignment]
        got = await asyncio.gather(*(control.ask("GET", "/brake") for _ in range(5)))

    assert {each.document["held_back"] for each in got} == {DOUBTED}
    assert len(scans) == 1


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/brake", None),
        ("POST", "/brake/release", None),
        ("POST", "/brake/release", {"all": True, "expected": DOUBTED}),
    ],
)
async def test_while_the_store_is_away_the_brake_says_so(
    method: str, path: str, body: object
) -> None:
    """503 with the obstacle: no person is told what is not known."""
    async with running_control() as control:
        await control.rig.store.throttle(PullBrake())
        control.rig.store.is_available = False
        got = await control.ask(method, path, body=body)

    assert (got.status, got.document["obstacle"]) == (503, "store_away")
    assert control.rig.store.held_back.is_braked
