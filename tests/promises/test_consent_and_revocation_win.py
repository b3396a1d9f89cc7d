"""What the end user wants last is what stands, whatever refresh is under way."""

from __future__ import annotations

import asyncio

from sidecar.sandbox import Fault, Sandbox
from tests.promises.conftest import StartSidecar
from tests.support.fleet import App, SidecarProcess
from tests.support.wait import eventually, until

USER = "mikomo_10"
REFRESH = f"/grants/mikomo/{USER}/refresh"
GRANT = f"/grants/mikomo/{USER}"


async def begin_refresh(sandbox: Sandbox, app: App, sidecar: SidecarProcess) -> asyncio.Task[int]:
    """Start a refresh whose answer takes a second, and wait until Akoya has rotated."""
    sandbox.faults.add(Fault(operation="refresh", kind="slow_after", delay_s=1.0))

    async def refresh() -> int:
        async with app.control(sidecar, "POST", REFRESH) as answer:
            return answer.status

    asking = asyncio.ensure_future(refresh())
    await until(lambda: len(sandbox.ledger) == 1, within_s=30, what="the claim to reach the IdP")
    return asking


async def test_a_new_consent_wins_over_a_refresh_in_flight(
    sandbox: Sandbox, start: StartSidecar, app: App
) -> None:
    """The late successor of the former consent changes nothing, and the new one serves."""
    sidecar = await start("only")
    first = await app.onboard(sidecar, USER)
    refreshing = await begin_refresh(sandbox, app, sidecar)

    second = await app.onboard(sidecar, USER)
    await refreshing

    grant = await app.show(sidecar, USER)
    assert (grant["state"], grant["generation"]) == ("active", 0)
    assert grant["consented_at"] == second["consented_at"] != first["consented_at"]
    assert await app.fetch(sidecar, USER) == (200, "")


async def test_a_grant_revoked_during_a_refresh_stays_revoked_here_and_at_akoya(
    sandbox: Sandbox, start: StartSidecar, app: App
) -> None:
    """The successor that was born meanwhile is revoked too, and no restart brings it back."""
    sidecar = await start("only")
    await app.onboard(sidecar, USER)
    refreshing = await begin_refresh(sandbox, app, sidecar)

    async with app.control(sidecar, "DELETE", GRANT) as answer:
        assert answer.status in (202, 204)
    assert await app.fetch(sidecar, USER) == (401, "reauth_required")
    await refreshing
    await eventually(
        lambda: app.show(sidecar, USER),
        lambda grant: bool(grant["state"] == "revoked"),
        within_s=30,
        what="the revocation to be carried out",
    )
    revoked = [entry for entry in sandbox.ledger if entry.presentation == "revoke"]
    assert [(entry.generation, entry.outcome) for entry in revoked] == [(1, "revoked")]

    sidecar.kill()
    await start("only")
    restarted = await start("another")

    assert (await app.show(restarted, USER))["state"] == "revoked"
    assert await app.fetch(restarted, USER) == (401, "reauth_required")
