from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from random import Random
from typing import Any, Final, cast

import pytest
from redis import Redis

from sidecar.adapters.redis_scripts import load_scripts
from sidecar.adapters.redis_throttle import answer_of, arguments_of
from sidecar.domain import throttle as rules
from sidecar.domain.events import StoreOperation
from sidecar.domain.failure import FailureReason
from sidecar.domain.record import GrantId
from sidecar.domain.throttle import (
    BrakeCause,
    CountAcceptance,
    CountDecided,
    CountGrants,
    CountRefusal,
    Look,
    PullBrake,
    ReleaseAll,
    ReleaseBrake,
    ReserveSettlement,
    TakeCanary,
    Throttle,
    ThrottleStep,
)
from sidecar.ports import TokenStore

START_MS: Final = 1_700_000_000_000
REFUSED: Final = FailureReason.CLIENT_CREDENTIALS_INVALID
HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS
YEAR_MS: Final = 365 * DAY_MS
GRANTS: Final = tuple(GrantId(f"{number:032x}") for number in range(6))


async def _look(store: TokenStore) -> Throttle:
    seen, _ = await store.throttle(Look())
    return seen


async def test_nothing_holds_a_new_fleet_back(store: TokenStore) -> None:
    """An empty store brakes nobody, and whoever asks for a canary may pass."""
    seen, is_granted = await store.throttle(TakeCanary(canary_ms=60_000))

    assert seen == Throttle()
    assert is_granted


async def test_a_pulled_brake_holds_until_it_is_let_go(store: TokenStore) -> None:
    """Pulling twice changes nothing; letting go frees the fleet for a while, whoever pulls."""
    first, _ = await store.throttle(PullBrake())
    second, _ = await store.throttle(PullBrake())
    released, _ = await store.throttle(ReleaseAll())
    again, _ = await store.throttle(PullBrake())

    assert (first.is_braked, first.brake_cause) == (True, BrakeCause.SETTLEMENTS)
    assert second == first
    assert not released.is_braked
    assert released.free_until_ms >= first.braked_at_ms + HOUR_MS
    assert again == released == await _look(store)


async def test_letting_go_of_a_brake_that_is_off_changes_nothing(store: TokenStore) -> None:
    """Who says it twice, or to be on the safe side, does not disarm the brake."""
    released, _ = await store.throttle(ReleaseAll())

    assert released == Throttle()


async def test_a_fifth_of_the_last_refreshes_denied_is_enough_and_more_pulls_the_brake(
    store: TokenStore,
) -> None:
    """More than 20 % of at least 25; what other sidecars counted counts as well."""
    few, _ = await store.throttle(CountDecided(decided=24, denied=24))
    good, _ = await store.throttle(CountDecided(decided=96, denied=0))
    bad, _ = await store.throttle(CountDecided(decided=1, denied=1))

    assert not few.is_braked
    assert not good.is_braked
    assert (bad.is_braked, bad.brake_cause) == (True, BrakeCause.DENIALS)


async def test_two_refusals_in_a_row_open_the_breaker_and_one_canary_may_try(
    store: TokenStore,
) -> None:
    """An acceptance in between begins anew; while it is open the next canary waits its time."""
    await store.throttle(CountRefusal(reason=REFUSED, canary_ms=0))
    await store.throttle(CountAcceptance())
    one, _ = await store.throttle(CountRefusal(reason=REFUSED, canary_ms=0))
    two, _ = await store.throttle(CountRefusal(reason=REFUSED, canary_ms=0))
    _, first = await store.throttle(TakeCanary(canary_ms=60_000))
    _, second = await store.throttle(TakeCanary(canary_ms=60_000))
    accepted, _ = await store.throttle(CountAcceptance())

    assert not one.is_open
    assert (two.is_open, two.refusals, two.refusal_reason) == (True, 2, REFUSED)
    assert (first, second) == (True, False)
    assert accepted == Throttle(revision=accepted.revision)


async def test_a_refused_canary_delays_the_next_one(store: TokenStore) -> None:
    """The pause counts from the refusal, so that no two requests are closer than it."""
    for _ in range(2):
        await store.throttle(CountRefusal(reason=REFUSED, canary_ms=60_000))

    _, is_granted = await store.throttle(TakeCanary(canary_ms=60_000))

    assert not is_granted


async def test_the_number_of_grants_is_everybodys(store: TokenStore) -> None:
    """Who counted tells the others, since the limit of settlements depends on it."""
    await store.throttle(CountGrants(grants=7))
    await store.throttle(CountGrants(grants=12_000))

    assert (await _look(store)).grants == 12_000


async def test_no_more_grants_than_allowed_are_reserved_in_a_window(store: TokenStore) -> None:
    """Who has a reservation keeps it, however often and by whomever it is asked for."""
    grants = [GrantId(f"{number:032x}") for number in range(4)]

    got = [await store.reserve_settlement(each, window_ms=HOUR_MS, most=3) for each in grants]
    again = [await store.reserve_settlement(each, window_ms=HOUR_MS, most=3) for each in grants]
    free = await store.reserve_settlement(grants[3], window_ms=HOUR_MS, most=None)

    assert got == again == [True, True, True, False]
    assert free


async def test_a_window_that_is_over_counts_no_more(store: TokenStore) -> None:
    """Reservations fall out of the window one by one."""
    grants = [GrantId(f"{number:032x}") for number in range(3)]

    got = [await store.reserve_settlement(each, window_ms=0, most=1) for each in grants]

    assert got == [True, True, True]


class _TwoThrottles:
    """Takes every step in Python and in Redis, and compares."""

    def __init__(self, redis: Any, prefix: str) -> None:
        self.now_ms = START_MS
        self.reached: Counter[str] = Counter()
        self._redis = redis
        self._key = f"{prefix}:throttle"
        self._clock = f"{prefix}:moment"
        clock = (
            "local function moment()\n"
            f"  return tonumber(redis.call('GET', '{self._clock}')), 'run'\n"
            "end\n"
        )
        self._script = load_scripts(clock)[StoreOperation.THROTTLE]
        self._throttle = Throttle()

    def take(self, step: ThrottleStep) -> None:
        expected = rules.take(self._throttle, step, self.now_ms)
        self._redis.set(self._clock, self.now_ms)
        reply = self._redis.eval(self._script.text, 1, self._key, *arguments_of(step))

        assert answer_of(reply) == expected, (step, self._throttle)
        before, (self._throttle, is_granted) = self._throttle, expected
        self.reached.update(self._landmarks(before, step, is_granted=is_granted))

    def _landmarks(
        self, before: Throttle, step: ThrottleStep, *, is_granted: bool
    ) -> Iterator[str]:
        after = self._throttle
        if after.is_braked and not before.is_braked:
            yield f"braked by {after.brake_cause}"
        if before.is_braked and not after.is_braked:
            yield "released"
        if after.is_open and not before.is_open:
            yield "opened"
        if before.is_open and not after.is_open:
            yield "closed"
        if isinstance(step, TakeCanary) and before.is_open:
            yield "canary granted" if is_granted else "canary refused"
        if isinstance(step, PullBrake) and not after.is_braked:
            yield "free" if rules.running_trial(after, self.now_ms) is None else "on trial"
        if isinstance(step, ReserveSettlement):
            was_on_trial = rules.running_trial(before, self.now_ms) is not None
            why = " by the trial" if was_on_trial else " again" if is_granted else ""
            yield f"settlement {'granted' if is_granted else 'refused'}{why}"
        if before.trial is not None and after.trial is None:
            is_late = not before.trial.is_running(self.now_ms)
            yield "trial outlived" if is_late else "trial ended"


def _random_step(rng: Random) -> ThrottleStep:
    decided = rng.randrange(20)
    counts: list[ThrottleStep] = [
        CountDecided(
            decided=decided,
            denied=denied,
            paired=tuple(rng.sample(GRANTS, rng.randrange(4))),
            refused=tuple(rng.sample(GRANTS, rng.randrange(3))),
        )
        for denied in (0, 0, decided // 3)
    ]
    return rng.choice(
        (
            *counts,
            *counts,
            Look(),
            PullBrake(),
            ReserveSettlement(grant=rng.choice(GRANTS)),
            ReserveSettlement(grant=rng.choice(GRANTS)),
            ReleaseBrake(limit=rng.choice((1, 3, 5))),
            ReleaseBrake(limit=rng.choice((1, 3, 5))),
            rng.choice((Look(), ReleaseAll())),
            CountGrants(grants=rng.choice((0, 7, 10_000_000))),
            CountRefusal(
                reason=rng.choice((REFUSED, FailureReason.GRANT_TYPE_INVALID)),
                canary_ms=rng.choice((0, 30_000)),
            ),
            rng.choice((Look(), CountAcceptance())),
            TakeCanary(canary_ms=30_000),
            TakeCanary(canary_ms=30_000),
        )
    )


@pytest.mark.parametrize("seed", range(2))
def test_redis_takes_every_step_as_the_domain_does(
    redis_url: str, redis_prefix: str, seed: int
) -> None:
    """Thousands of random steps leave the same throttle and the same answers on both sides."""
    rng = Random(seed)  # noqa: S311 - repeatable on purpose
    connect = cast("Any", Redis).from_url  # whose types are partly unknown
    with connect(redis_url, protocol=2) as redis:
        both = _TwoThrottles(redis, redis_prefix)
        for _ in range(3_000):
            both.now_ms += rng.choice((0, 1, 1_000, 30_000, 30_000, 100_000))
            if rng.randrange(100) == 0:
                both.now_ms += rng.choice((HOUR_MS, DAY_MS, YEAR_MS, -YEAR_MS, -DAY_MS))
            both.take(_random_step(rng))

    assert set(both.reached) == {
        "braked by settlements",
        "braked by denials",
        "braked by trial",
        "released",
        "opened",
        "closed",
        "canary granted",
        "canary refused",
        "free",
        "on trial",
        "trial ended",
        "trial outlived",
        "settlement granted by the trial",
        "settlement granted again",
        "settlement refused",
    }
