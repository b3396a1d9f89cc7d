"""What can befall a fleet, made to happen for real: each the cause of one alert.

It must not know what anybody makes of it.
"""

from __future__ import annotations

import asyncio
import base64
import resource
from collections.abc import Awaitable, Callable
from typing import Final

from sidecar.sandbox import Fault
from tests.operations.watched_fleet import WatchedFleet
from tests.support.deployment import BANKS, presentations
from tests.support.wait import until

SICK: Final = BANKS[1]
STRANGE_KEY: Final = "k9:" + base64.b64encode(b"s" * 32).decode()
DOUBTED: Final = 12
WITHDRAWN: Final = 8
WITHIN_S: Final = 20.0

Trouble = Callable[[WatchedFleet], Awaitable[None]]


async def a_sidecar_dies(fleet: WatchedFleet) -> None:
    """Kill one that gets no calls any more."""
    fleet.sidecars.pop().kill()


async def redis_dies_before_it_hears_of_a_pair(fleet: WatchedFleet) -> None:
    """Leave a pair on one disk: Akoya has answered a refresh, Redis is gone."""
    user, provider = fleet.grants[1]
    sandbox = fleet.world.sandbox
    slow = Fault(operation="refresh", kind="slow_after", delay_s=1.0, user=user, times=0)
    fault = sandbox.faults.add(slow)
    before = presentations(sandbox, user, provider)
    asking = asyncio.ensure_future(fleet.refresh_all(fleet.sidecars[0], [(user, provider)]))
    await until(
        lambda: presentations(sandbox, user, provider) > before,
        within_s=WITHIN_S,
        what="the refresh token to be presented",
    )
    fleet.world.redis.kill()
    await asyncio.wait((asking,))
    sandbox.faults.delete(fault)
    await fleet.prometheus.shows("sum(sidecar_spool_parked_entries)", above=0, within_s=WITHIN_S)


async def redis_takes_no_claim(fleet: WatchedFleet) -> None:
    """Leave Redis no memory: it answers every probe and every read, and refuses leases."""
    with fleet.world.redis.client() as client:
        client.config_set("maxmemory", 1)
    await fleet.refresh_all(fleet.sidecars[0], fleet.grants[:1])


async def redis_comes_back(fleet: WatchedFleet) -> None:
    """Start Redis again, with its data."""
    await asyncio.to_thread(fleet.world.redis.start)


async def a_disk_takes_nothing(fleet: WatchedFleet) -> None:
    """Let no file of one sidecar grow any more."""
    nothing = (0, 0)
    resource.prlimit(fleet.sidecars[0].pid, resource.RLIMIT_FSIZE, nothing)


async def the_secret_is_wrong(fleet: WatchedFleet) -> None:
    """Put another client secret into the file."""
    fleet.secret.write_text("no-secret-of-this-app")


async def refreshes_are_limited(fleet: WatchedFleet) -> None:
    """Have the token service refuse every second refresh for now."""
    limited = Fault(operation="refresh", kind="status_before", status=429, times=0, chance=0.5)
    fleet.world.sandbox.faults.add(limited)


async def a_bank_is_sick(fleet: WatchedFleet) -> None:
    """Have every refresh at one bank fail, and try each of them."""
    sick = Fault(operation="refresh", kind="status_before", status=503, times=0, provider=SICK)
    fleet.world.sandbox.faults.add(sick)
    await fleet.refresh_all(fleet.sidecars[0], fleet.of_bank(SICK))


async def many_users_withdraw(fleet: WatchedFleet) -> None:
    """End more consents at once than anybody believes."""
    gone = fleet.grants[:WITHDRAWN]
    for user, provider in gone:
        fleet.world.sandbox.grants.revoke_consent(user=user, provider=provider)
    await fleet.refresh_all(fleet.sidecars[0], gone)


async def refusals_have_no_clear_reason(fleet: WatchedFleet) -> None:
    """Refuse a good many tokens with what cannot be true."""
    fleet.world.sandbox.faults.add(
        Fault(
            operation="refresh",
            kind="error",
            status=400,
            error="invalid_request",
            error_description="No refresh token in request.",
            times=DOUBTED,
        )
    )
    await fleet.refresh_all(fleet.sidecars[0], fleet.grants[:DOUBTED])


async def an_answer_is_lost(fleet: WatchedFleet) -> None:
    """Let Akoya rotate a token and nobody hear of it."""
    user, provider = fleet.grants[0]
    fleet.world.sandbox.faults.add(Fault(operation="refresh", kind="drop_after", user=user))
    await fleet.refresh_all(fleet.sidecars[0], [(user, provider)])


async def data_calls_fail(fleet: WatchedFleet) -> None:
    """Have one bank answer every second data call with 503."""
    fleet.world.sandbox.faults.add(
        Fault(operation="data", kind="status_before", times=0, chance=0.5, provider=SICK)
    )


async def a_sidecar_has_other_keys(fleet: WatchedFleet) -> None:
    """Start one that opens nothing that the others sealed."""
    stranger = await fleet.start("stranger", SIDECAR_ENCRYPTION_KEYS=STRANGE_KEY)
    fleet.watch()
    address = stranger.metrics_url.removeprefix("http://")
    zeros = f'count_over_time(sidecar_decrypt_failures_total{{instance="{address}"}}[1d])'
    await fleet.prometheus.shows(zeros, above=1, within_s=WITHIN_S)
    await fleet.refresh_all(stranger, fleet.grants[:1])
