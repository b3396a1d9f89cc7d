"""However the token service frames and ends an answer, what was asked ends as with a length."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from sidecar.sandbox import Fault, Sandbox
from sidecar.sandbox.framing import Framing
from tests.promises.conftest import StartSidecar
from tests.support.fleet import BANK, App, SidecarProcess
from tests.support.wait import eventually

FRAMINGS: Final[tuple[Framing, ...]] = ("length", "chunked", "close")
USED_UP: Final = "Refresh token is invalid or has already been claimed by another client."
ANSWERS: Final[Mapping[str, Mapping[str, Any]]] = {
    "whole": {"kind": "frame"},
    "denied": {"kind": "error", "error": "invalid_request", "error_description": USED_UP},
    "limited": {"kind": "status_before", "status": 429},
    "broken": {"kind": "status_before", "status": 503},
    "page": {"kind": "html", "status": 503},
    "cut behind its token": {"kind": "cut_after", "after_bytes": -1},
}
"""What comes of a refresh; refused credentials are tried one by one, since two open a breaker."""


def arm(sandbox: Sandbox, operation: Any, user: str, framing: Framing, **answer: Any) -> int:
    beside: Any = "nothing" if answer["kind"] == "cut_after" else "surplus"
    fault = Fault(operation=operation, user=user, framing=framing, beside=beside, times=0, **answer)
    return sandbox.faults.add(fault)


async def refreshed(
    app: App, sidecar: SidecarProcess, user: str, bank: str
) -> tuple[int, str, str, int]:
    """Have a grant refreshed; return how that ended, and where it stands a second later at most."""
    status = await app.refresh(sidecar, user, provider=bank)
    grant = await eventually(
        lambda: app.show(sidecar, user, provider=bank),
        lambda shown: shown["state"] != "refreshing",
        within_s=1,
        what=f"the claim of {user} to end",
    )
    last_error: Mapping[str, str] = grant["last_error"] or {}
    return status, grant["state"], last_error.get("reason", ""), grant["generation"]


async def test_every_framing_ends_a_refresh_as_a_length_does(
    sandbox: Sandbox, start: StartSidecar, app: App
) -> None:
    """On the image's event loop: the same status, state, reason and generation, and no fault."""
    sidecar = await start("only")
    users: dict[tuple[str, Framing], str] = {
        (answer, framing): f"u_{number}_{framing}"
        for number, answer in enumerate((*ANSWERS, "refused"))
        for framing in FRAMINGS
    }
    # A bank for each answer, since a failing bank's breaker would open for the others.
    banks = {case: f"bank-{list(users).index(case) // len(FRAMINGS)}" for case in users}
    await asyncio.gather(
        *(app.onboard(sidecar, users[case], provider=banks[case]) for case in users)
    )
    await app.onboard(sidecar, "healthy")
    for (answer, framing), user in users.items():
        if answer != "refused":
            arm(sandbox, "refresh", user, framing, **ANSWERS[answer])

    cases = [case for case in users if case[0] != "refused"]
    ended = await asyncio.gather(
        *(refreshed(app, sidecar, users[case], banks[case]) for case in cases)
    )
    came = dict(zip(cases, ended, strict=True))
    for framing in FRAMINGS:
        user = users["refused", framing]
        arm(
            *(sandbox, "refresh", user, framing),
            kind="error",
            status=401,
            error="invalid_client",
        )
        bank = banks["refused", framing]
        came["refused", framing] = await refreshed(app, sidecar, user, bank)
        assert await app.refresh(sidecar, "healthy") == 200

    for answer, framing in users:
        assert came[answer, framing] == came[answer, "length"], (answer, framing)
    assert {answer: came[answer, "length"][1] for answer in ANSWERS} == {
        "whole": "active",
        "denied": "reauth_required",
        "limited": "active",
        "broken": "active",
        "page": "active",
        "cut behind its token": "active",
    }
    assert [came[answer, "close"][3] for answer in ANSWERS] == [1, 0, 0, 0, 0, 1]
    assert "work.failed" not in sidecar.events


async def test_every_framing_ends_an_exchange_and_a_revocation(
    sandbox: Sandbox, start: StartSidecar, app: App
) -> None:
    """A pair that came is answered with, and a revocation that was done is done once."""
    sidecar = await start("only")
    statuses: dict[str, list[int]] = {"whole": [], "refused": [], "revoked": []}
    for framing in FRAMINGS:
        user = f"u_{framing}"
        whole = arm(sandbox, "obtain", user, framing, kind="frame")
        arm(sandbox, "revoke", user, framing, kind="frame")
        statuses["whole"].append(await exchange(app, sidecar, user))
        sandbox.faults.delete(whole)
        arm(sandbox, "obtain", user, framing, kind="error", error="invalid_request",
            error_description="Invalid or expired code parameter.")  # fmt: skip
        statuses["refused"].append(await exchange(app, sidecar, user))
        async with app.control(sidecar, "DELETE", f"/grants/{BANK}/{user}") as answer:
            statuses["revoked"].append(answer.status)

    told = [entry for entry in sandbox.ledger if entry.presentation == "revoke"]
    assert {name: len(set(same)) for name, same in statuses.items()} == {
        "whole": 1,
        "refused": 1,
        "revoked": 1,
    }
    assert statuses["whole"][0] == 201
    assert len(told) == len(FRAMINGS)
    assert "work.failed" not in sidecar.events


async def exchange(app: App, sidecar: SidecarProcess, user: str) -> int:
    body = {"user": user, "provider": BANK, "code": app.consent(user)}
    async with app.control(sidecar, "POST", "/grants", json=body) as answer:
        await answer.read()
        return answer.status
