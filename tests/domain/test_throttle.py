from __future__ import annotations

import pytest

from sidecar.domain.failure import FailureReason
from sidecar.domain.throttle import (
    GRANTS_OF_LIMIT,
    LEAST_DECIDED,
    LEAST_LIMIT,
    SLICE_MS,
    SLICES,
    BrakeCause,
    CountAcceptance,
    CountDecided,
    CountGrants,
    CountRefusal,
    Look,
    PullBrake,
    ReleaseBrake,
    TakeCanary,
    Throttle,
    ThrottleStep,
    settlement_limit,
    take,
)

NOW = 1_000_000_000
FREE_MS = 3_600_000
CANARY_MS = 30_000
REFUSED = CountRefusal(reason=FailureReason.CLIENT_CREDENTIALS_INVALID, canary_ms=CANARY_MS)


def after(*steps: ThrottleStep, at_ms: int = NOW, throttle: Throttle | None = None) -> Throttle:
    stands = throttle or Throttle()
    for step in steps:
        stands, _ = take(stands, step, at_ms)
    return stands


def test_one_denial_in_five_is_normal_and_more_is_not() -> None:
    """The brake is pulled by the denial that makes it more than a fifth, and says why."""
    calm = after(CountDecided(decided=25, denied=5))
    pulled = after(CountDecided(decided=1, denied=1), throttle=calm)

    assert not calm.is_braked
    assert (pulled.is_braked, pulled.brake_cause) == (True, BrakeCause.DENIALS)
    assert pulled.braked_at_ms == NOW


def test_a_few_denials_are_no_pattern() -> None:
    """Below the least number of decided refreshes every one may be denied."""
    most = after(CountDecided(decided=LEAST_DECIDED - 1, denied=LEAST_DECIDED - 1))

    assert not most.is_braked
    assert after(CountDecided(decided=1, denied=0), throttle=most).is_braked


def test_denials_of_earlier_are_forgotten() -> None:
    """Five minutes later the same number of denials begins from nothing."""
    earlier = after(CountDecided(decided=24, denied=24))
    later_ms = NOW + SLICES * SLICE_MS

    stands = after(CountDecided(decided=24, denied=24), at_ms=later_ms, throttle=earlier)

    assert not stands.is_braked


def test_a_brake_that_is_on_keeps_its_time_and_its_cause() -> None:
    """Who pulls it again changes neither: the first cause is what a person must look at."""
    pulled = after(PullBrake())

    again = after(CountDecided(decided=50, denied=50), at_ms=NOW + 1, throttle=pulled)

    assert (again.braked_at_ms, again.brake_cause) == (NOW, BrakeCause.SETTLEMENTS)


def test_nothing_pulls_the_brake_while_it_is_free() -> None:
    """A person let it go: for that while neither settlements nor denials pull it again."""
    few = CountDecided(decided=1, denied=1)
    free = after(few, PullBrake(), ReleaseBrake(free_ms=FREE_MS))
    causes = (PullBrake(), CountDecided(decided=100, denied=100))

    assert free.decided == ()
    for cause in causes:
        assert not after(cause, at_ms=NOW + FREE_MS - 1, throttle=free).is_braked
        assert after(cause, at_ms=NOW + FREE_MS, throttle=free).is_braked


def test_a_release_of_a_brake_that_is_off_frees_nobody() -> None:
    """A button pressed by mistake does not switch the protection off for an hour."""
    assert after(ReleaseBrake(free_ms=FREE_MS)) == Throttle()


@pytest.mark.parametrize(
    ("grants", "chosen", "limit"),
    [
        (0, None, LEAST_LIMIT),
        (LEAST_LIMIT * GRANTS_OF_LIMIT - 1, None, LEAST_LIMIT),
        (100 * GRANTS_OF_LIMIT, None, 100),
        (100 * GRANTS_OF_LIMIT, 7, 7),
    ],
)
def test_the_limit_grows_with_the_fleet_unless_somebody_chose_it(
    grants: int, chosen: int | None, limit: int
) -> None:
    """One grant in a thousand, a handful at the least, or what the operator said."""
    throttle = after(CountGrants(grants=grants))

    assert settlement_limit(chosen=chosen, throttle=throttle, now_ms=NOW) == limit


def test_there_is_no_limit_while_the_brake_is_free() -> None:
    """What a person has looked at is settled without a count, and only so long."""
    free = after(PullBrake(), ReleaseBrake(free_ms=FREE_MS))

    assert settlement_limit(chosen=7, throttle=free, now_ms=NOW + FREE_MS - 1) is None
    assert settlement_limit(chosen=7, throttle=free, now_ms=NOW + FREE_MS) == 7


def test_the_second_refusal_in_a_row_opens_the_breaker() -> None:
    """One may be a glitch; an acceptance in between starts the count anew."""
    assert not after(REFUSED).is_open
    assert not after(REFUSED, CountAcceptance(), REFUSED).is_open

    opened = after(REFUSED, REFUSED)

    assert opened.opened_at_ms == NOW
    assert opened.refusal_reason is FailureReason.CLIENT_CREDENTIALS_INVALID
    assert after(REFUSED, at_ms=NOW + 5, throttle=opened).opened_at_ms == NOW


def test_one_canary_leaves_in_each_pause() -> None:
    """While it is open one request may try; the next waits for a pause of its own."""
    opened = after(REFUSED, REFUSED)

    _, is_early = take(opened, TakeCanary(canary_ms=CANARY_MS), NOW + CANARY_MS - 1)
    tried, is_due = take(opened, TakeCanary(canary_ms=CANARY_MS), NOW + CANARY_MS)
    _, is_second = take(tried, TakeCanary(canary_ms=CANARY_MS), NOW + CANARY_MS)

    assert (is_early, is_due, is_second) == (False, True, False)
    assert tried.canary_at_ms == NOW + 2 * CANARY_MS


def test_a_closed_breaker_lets_everybody_leave() -> None:
    """Nobody is a canary then, and nothing is written."""
    assert take(Throttle(), TakeCanary(canary_ms=CANARY_MS), NOW) == (Throttle(), True)


def test_an_acceptance_closes_the_breaker_and_leaves_the_brake() -> None:
    """That Akoya knows the app again says nothing about users that seemed to die."""
    stands = after(REFUSED, REFUSED, PullBrake(), CountAcceptance())

    assert not stands.is_open
    assert stands.refusal_reason is None
    assert stands.is_braked


def test_each_change_has_a_number_and_a_look_has_none() -> None:
    """Answers that overtook one another are told apart, and looking disturbs nobody."""
    once = after(PullBrake())

    assert once.revision == 1
    assert after(Look(), PullBrake(), throttle=once) == once
