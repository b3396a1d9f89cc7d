"""What stops a whole fleet is let go by a person, or ends with its cause; nobody is lost for it."""

from __future__ import annotations

from pathlib import Path

from sidecar.sandbox import Sandbox
from tests.promises.conftest import StartSidecar
from tests.support.fleet import App, FleetPlace, SidecarProcess
from tests.support.redis_server import RedisServer
from tests.support.wait import eventually, until

USER = "mikomo_10"
LIMIT = 2
USERS = [f"mikomo_{number}" for number in range(10, 10 + 2 * LIMIT)]
SERVED = (200, "")
IN_NEED = (401, "reauth_required")
COME_AGAIN = (503, "token_unavailable")
BRAKE = "sidecar_brake_open"
BREAKER = 'sidecar_breaker_open{name="credentials"}'


async def shows(app: App, sidecar: SidecarProcess, series: str, value: float) -> None:
    await eventually(
        lambda: app.metric(sidecar, series),
        lambda shown: shown == value,
        within_s=30,
        what=f"{series} of {sidecar.name} to be {value}",
    )


async def until_open(app: App, sidecar: SidecarProcess, answers: list[int]) -> None:
    """Ask on, as callers do; a refused grant itself waits a little before it is tried again."""

    async def ask() -> float:
        answers.append(await app.refresh(sidecar, USER))
        return await app.metric(sidecar, BREAKER)

    await eventually(ask, lambda shown: shown == 1, within_s=30, what="the breaker to open")


async def states(app: App, sidecar: SidecarProcess) -> list[str]:
    return [(await app.show(sidecar, user))["state"] for user in USERS]


async def test_users_that_seem_to_die_at_once_wait_for_a_person(
    place: FleetPlace, sandbox: Sandbox, start: StartSidecar, app: App, redis_server: RedisServer
) -> None:
    """The fleet stops at the limit, also after a restart of the store, until it is let go."""
    place.environ = {"SIDECAR_BRAKE_LIMIT": str(LIMIT)}
    place.times = {"young_token_s": 0.0, "quarantine_s": 1.0, "heal_s": 1.0}
    first, second = await start("first"), await start("second")
    for user in USERS:
        await app.onboard(first, user)
        assert await app.refresh(first, user) == 200  # so that a denial is a clean one
        sandbox.grants.revoke_consent(user=user, provider=None)
        sandbox.grants.expire_id_tokens(user=user, provider=None)

    answers = [await app.fetch(first, user) for user in USERS]
    for sidecar in (first, second):
        await shows(app, sidecar, BRAKE, 1)
    redis_server.kill()
    redis_server.start()
    late = await app.fetch(second, USERS[-1])
    held = await states(app, second)
    async with app.control(second, "GET", "/brake") as answer:
        shown = await answer.json()
    async with app.control(second, "POST", "/brake/release") as answer:
        released = answer.status
    for sidecar in (first, second):
        await shows(app, sidecar, BRAKE, 0)
    after = [await app.served(second, user) for user in USERS]

    assert sorted(answers) == sorted([IN_NEED] * LIMIT + [COME_AGAIN] * LIMIT)
    assert (late[0], released) == (503, 204)
    assert held.count("reauth_required") == LIMIT
    assert (shown["state"], shown["cause"]) == ("on", "settlements")
    assert 1 <= shown["held_back"] <= LIMIT, "the others were not claimed any more"
    assert after == [IN_NEED] * len(USERS)


async def test_a_secret_that_changes_on_disk_is_used_without_a_restart(
    place: FleetPlace, sandbox: Sandbox, start: StartSidecar, app: App, tmp_path: Path
) -> None:
    """A wrong one stops the refreshes and blames no grant; the right one lets them flow again."""
    secret = tmp_path / "client-secret"
    secret.write_text(sandbox.settings.client_secret)
    place.environ = {
        "SIDECAR_AKOYA_CLIENT_SECRET": "",
        "SIDECAR_AKOYA_CLIENT_SECRET_FILE": str(secret),
    }
    place.times = {"canary_every_s": 1.0}
    sidecar = await start("only")
    await app.onboard(sidecar, USER)
    pid = sidecar.pid

    secret.write_text("a-secret-of-yesterday")
    refused = [await app.refresh(sidecar, USER)]
    await until_open(app, sidecar, refused)
    stands = (await app.show(sidecar, USER))["state"]
    secret.write_text(sandbox.settings.client_secret)
    await eventually(
        lambda: app.refresh(sidecar, USER),
        lambda status: status == 200,
        within_s=30,
        what="a refresh with the right secret",
    )

    assert 200 not in refused
    assert stands == "active"
    await shows(app, sidecar, BREAKER, 0)
    assert await app.fetch(sidecar, USER) == SERVED
    assert sidecar.pid == pid
    await until(
        lambda: sum(line["event"] == "client_secret.read" for line in sidecar.log) == 2,
        within_s=10,
        what="both changes of the secret to be told",
    )
