from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from sidecar.domain.brake_trial import TRIAL_MS, Trial
from sidecar.domain.failure import FailureReason
from sidecar.domain.record import GrantId
from sidecar.domain.throttle import (
    FREE_MS,
    GRANTS_OF_LIMIT,
    LEAST_DECIDED,
    LEAST_LIMIT,
    MOST_LIMIT,
    SLICE_MS,
    SLICES,
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
    running_trial,
    settlement_limit,
    take,
)

NOW = 1_000_000_000
DAY_MS = 86_400_000
GRANTS = tuple(GrantId(f"{number:032x}") for number in range(10))
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
    """A person let all go: for that while neither settlements nor denials pull it again."""
    few = CountDecided(decided=1, denied=1)
    free = after(few, PullBrake(), ReleaseAll())
    causes = (PullBrake(), CountDecided(decided=100, denied=100))

    assert free.decided == ()
    for cause in causes:
        assert not after(cause, at_ms=NOW + FREE_MS - 1, throttle=free).is_braked
        assert after(cause, at_ms=NOW + FREE_MS, throttle=free).is_braked


@pytest.mark.parametrize("release", [ReleaseBrake(limit=5), ReleaseAll()])
def test_a_release_of_a_brake_that_is_off_changes_nothing(release: ThrottleStep) -> None:
    """A button pressed by mistake does not switch the protection off."""
    assert after(release) == Throttle()


def test_a_freedom_that_cannot_have_begun_frees_no_grant() -> None:
    """A store's clock that stepped back does not keep the protection off for a year."""
    free = after(PullBrake(), ReleaseAll(), at_ms=NOW + 365 * DAY_MS)

    assert settlement_limit(chosen=7, throttle=free, now_ms=NOW) == 7
    assert after(PullBrake(), throttle=free).is_braked


def test_denials_that_another_clock_counted_are_forgotten() -> None:
    """Slices of the future do not count for a year once the clock is right again."""
    ahead = after(CountDecided(decided=24, denied=24), at_ms=NOW + 365 * DAY_MS)

    stands = after(CountDecided(decided=1, denied=1), throttle=ahead)

    assert not stands.is_braked
    assert sum(each.ended for each in stands.decided) == 1


def on_trial(limit: int = 4) -> Throttle:
    """Return the throttle after a release of a few grants."""
    return after(CountDecided(decided=50, denied=40), ReleaseBrake(limit=limit))


def decided(*, paired: int = 0, refused: int = 0, first: int = 0) -> CountDecided:
    """Return how the refreshes of grants ended that were not seen before."""
    named = GRANTS[first : first + paired + refused]
    return CountDecided(
        decided=paired + refused,
        denied=refused,
        paired=named[:paired],
        refused=named[paired:],
    )


def settle(throttle: Throttle, grant: GrantId, at_ms: int = NOW) -> tuple[Throttle, bool]:
    """Ask for the settlement of a grant."""
    return take(throttle, ReserveSettlement(grant=grant), at_ms)


def test_a_release_begins_a_trial_and_forgets_what_pulled_the_brake() -> None:
    """Claims flow, and what was counted before is not held against them."""
    released = on_trial(limit=4)

    assert not released.is_braked
    assert (released.brake_cause, released.decided) == (None, ())
    assert running_trial(released, NOW) == Trial(limit=4, began_at_ms=NOW)


def test_as_many_settlements_as_were_asked_for_are_granted_and_not_one_more() -> None:
    """The last one pulls the brake again in the same step, so the next one finds it on."""
    throttle = on_trial(limit=3)
    granted: list[bool] = []
    for grant in GRANTS[:5]:
        throttle, is_granted = settle(throttle, grant)
        granted.append(is_granted)

    assert granted == [True, True, True, False, False]
    assert (throttle.brake_cause, throttle.braked_at_ms) == (BrakeCause.TRIAL, NOW)


def test_a_settlement_is_granted_again_if_its_answer_was_lost() -> None:
    """A grant that is asked for twice, or by several sidecars, costs one place."""
    throttle = on_trial(limit=2)
    throttle, first = settle(throttle, GRANTS[0])
    throttle, again = settle(throttle, GRANTS[0])
    assert throttle.trial is not None
    assert throttle.trial.decided == 1
    throttle, last = settle(throttle, GRANTS[1])
    after_it, once_more = settle(throttle, GRANTS[1])

    assert (first, again, last, once_more) == (True, True, True, True)
    assert after_it == throttle


def test_a_grant_that_was_denied_and_then_settled_counts_once() -> None:
    """The denial and what follows from it are one decision."""
    throttle = after(decided(refused=1), throttle=on_trial(limit=2))
    throttle, is_granted = settle(throttle, GRANTS[0])

    assert is_granted
    assert throttle.trial is not None
    assert (throttle.trial.decided, throttle.trial.denied) == (1, 1)


@pytest.mark.parametrize(("refused", "is_pulled"), [(2, False), (3, True)])
def test_half_of_a_trial_denied_is_borne_and_more_is_not(refused: int, is_pulled: bool) -> None:  # noqa: FBT001
    """When as many as were let go are decided, the trial ends one way or the other."""
    nearly = after(decided(paired=4 - refused, refused=refused - 1), throttle=on_trial(limit=4))
    ended = after(decided(refused=1, first=3), throttle=nearly)

    assert not nearly.is_braked
    assert ended.is_braked is is_pulled
    assert running_trial(ended, NOW) is None
    if not is_pulled:  # the usual rules apply again, from nothing
        assert (ended.trial, ended.decided) == (None, ())
        assert settlement_limit(chosen=None, throttle=ended, now_ms=NOW) == LEAST_LIMIT
        assert after(PullBrake(), throttle=ended).is_braked


def test_a_denial_that_is_held_by_a_failed_trial_is_not_settled() -> None:
    """It was decided within the trial, but the brake is on: it waits for a person like the rest."""
    failed = after(decided(refused=2), throttle=on_trial(limit=2))
    assert failed.is_braked

    assert settle(failed, GRANTS[0]) == (failed, False)


def test_a_grant_that_is_refreshed_often_counts_once() -> None:
    """One healthy user with short tokens does not end a trial."""
    throttle = on_trial(limit=3)
    for _ in range(9):
        throttle = after(decided(paired=1), throttle=throttle)

    assert throttle.trial is not None
    assert throttle.trial.decided == 1


def test_more_decisions_at_once_than_a_trial_has_places_are_cut() -> None:
    """Denials are counted first: what comes too late cannot outvote them."""
    ended = after(decided(paired=5, refused=3), throttle=on_trial(limit=4))

    assert ended.is_braked
    assert ended.trial is not None
    assert (ended.trial.decided, ended.trial.denied) == (4, 3)


def test_the_usual_limits_rest_while_a_trial_runs() -> None:
    """What a person asked for is not cut short by the counts that pulled the brake before."""
    throttle = after(PullBrake(), decided(refused=3), throttle=on_trial(limit=100))
    busy = after(CountDecided(decided=50, denied=50), throttle=throttle)

    assert not busy.is_braked


def test_a_second_release_does_not_let_more_go() -> None:
    """An operator who asks twice, or hears no answer, has one trial."""
    throttle = after(decided(paired=1, refused=1), throttle=on_trial(limit=4))

    assert after(ReleaseBrake(limit=1000), at_ms=NOW + 5, throttle=throttle) == throttle


def test_all_may_be_released_while_a_trial_runs() -> None:
    """Who has seen enough need not wait for its end."""
    throttle = after(decided(refused=1), ReleaseAll(), throttle=on_trial(limit=4))

    assert throttle.trial is None
    assert throttle.free_until_ms == NOW + FREE_MS
    assert settle(throttle, GRANTS[0]) == (throttle, False)  # it is not counted: there is no limit
    assert settlement_limit(chosen=None, throttle=throttle, now_ms=NOW) is None


def test_a_trial_without_claims_is_over_after_a_day() -> None:
    """Where too few users come, the usual rules return, and begin from nothing."""
    throttle = after(decided(refused=1), throttle=on_trial(limit=4))
    last_ms, over_ms = NOW + TRIAL_MS - 1, NOW + TRIAL_MS

    assert running_trial(throttle, last_ms) is not None
    assert running_trial(throttle, over_ms) is None
    assert settle(throttle, GRANTS[1], over_ms) == (throttle, False)
    assert after(PullBrake(), at_ms=over_ms, throttle=throttle).is_braked
    later = after(decided(paired=1), at_ms=over_ms, throttle=throttle)
    assert (later.trial, sum(each.ended for each in later.decided)) == (None, 1)


def test_a_trial_that_began_in_the_future_is_none() -> None:
    """A store's clock that stepped back does not suspend the usual rules for a year."""
    ahead = after(PullBrake(), ReleaseBrake(limit=9), at_ms=NOW + 365 * DAY_MS)

    assert running_trial(ahead, NOW) is None
    assert after(PullBrake(), throttle=ahead).is_braked


def test_no_order_of_events_settles_more_than_a_trial_lets_go() -> None:
    """However many sidecars race: as many grants are settled as were let go, at most."""
    rng = Random(7)  # noqa: S311 - repeatable on purpose
    ends: Counter[str] = Counter()
    for _ in range(400):
        limit = rng.randint(1, 6)
        throttle, settled = on_trial(limit=limit), set[GrantId]()
        for _ in range(40):
            if throttle.trial is None:  # it ended well, and the usual limit decides
                break
            grant = rng.choice(GRANTS)
            if rng.random() < 0.4:
                throttle, is_granted = settle(throttle, grant)
                settled |= {grant} if is_granted else set()
            elif rng.random() < 0.5:
                count = CountDecided(decided=1, denied=0, paired=(grant,))
                throttle = after(count, throttle=throttle)
            else:
                count = CountDecided(decided=1, denied=1, refused=(grant,))
                throttle = after(count, throttle=throttle)
        assert len(settled) <= limit
        ends["all settled" if len(settled) == limit else "some settled"] += 1
        ends["failed" if throttle.is_braked else "passed"] += 1

    assert min(ends[end] for end in ("all settled", "some settled", "failed", "passed")) > 20, ends


@pytest.mark.parametrize(
    ("grants", "chosen", "limit"),
    [
        (0, None, LEAST_LIMIT),
        (LEAST_LIMIT * GRANTS_OF_LIMIT - 1, None, LEAST_LIMIT),
        (100 * GRANTS_OF_LIMIT, None, 100),
        (100 * GRANTS_OF_LIMIT, 7, 7),
        (10**15, None, MOST_LIMIT),
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
    free = after(PullBrake(), ReleaseAll())

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


def test_a_canary_of_another_clock_keeps_no_fleet_waiting() -> None:
    """A store's clock that stepped back a year does not close the breaker's door for a year."""
    ahead = after(REFUSED, REFUSED, at_ms=NOW + 365 * DAY_MS)

    assert take(ahead, TakeCanary(canary_ms=CANARY_MS), NOW)[1]


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
