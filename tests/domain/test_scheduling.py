from __future__ import annotations

from collections import Counter
from dataclasses import replace
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.domain.policy import ProtocolTimes, RefreshAhead, RefreshPolicy
from sidecar.domain.record import GrantId, GrantRecord, GrantState
from sidecar.domain.scheduling import (
    SHARDS,
    DueLater,
    DueNow,
    NotDue,
    Prospect,
    Schedule,
    shard_of,
)
from tests.support.records import active

GRANT = GrantId("0" * 32)
COMMITTED_MS = 1_000_000
LIFE_MS = 900_000
REFRESH_MS = COMMITTED_MS + LIFE_MS - 180_000
NOW_MS = REFRESH_MS
NEVER = Prospect(if_used_ms=None, if_idle_ms=None)


def schedule(ahead: RefreshAhead, *, keepalive_s: float = 0.0) -> Schedule:
    policy = RefreshPolicy(ahead=ahead, active_window_s=1000.0, keepalive_s=keepalive_s)
    return Schedule(policy=policy, times=ProtocolTimes())


def record(**changes: object) -> GrantRecord:
    """Return a grant whose token lives a quarter of an hour."""
    pair = replace(active().pair, expires_at_ms=COMMITTED_MS + LIFE_MS)
    made = replace(active(), pair=pair, committed_at_ms=COMMITTED_MS)
    return replace(made, **changes)  # type: ignore[arg-type]


def test_a_grant_is_due_before_it_expires_if_it_is_in_use() -> None:
    """`active` refreshes what is used, `all` everything, `off` nothing."""
    active_one, everything = schedule(RefreshAhead.ACTIVE), schedule(RefreshAhead.ALL)

    assert active_one.prospect(GRANT, record(), now_ms=NOW_MS) == Prospect(
        if_used_ms=REFRESH_MS, if_idle_ms=None
    )
    assert everything.prospect(GRANT, record(), now_ms=NOW_MS) == Prospect(
        if_used_ms=REFRESH_MS, if_idle_ms=REFRESH_MS
    )
    assert schedule(RefreshAhead.OFF).prospect(GRANT, record(), now_ms=NOW_MS) == NEVER


@pytest.mark.parametrize("state", [s for s in GrantState if s.is_dead])
@pytest.mark.parametrize("ahead", list(RefreshAhead))
def test_a_dead_grant_is_never_due(state: GrantState, ahead: RefreshAhead) -> None:
    """Nothing brings a dead grant back but a new consent or a late pair."""
    assert (
        schedule(ahead, keepalive_s=60).prospect(GRANT, record(state=state), now_ms=NOW_MS) == NEVER
    )


def test_keep_alive_bounds_the_age_of_every_pair() -> None:
    """An idle grant is due by its age; one in use by whatever comes first."""
    often = schedule(RefreshAhead.ACTIVE, keepalive_s=300).prospect(GRANT, record(), now_ms=NOW_MS)
    seldom = schedule(RefreshAhead.ACTIVE, keepalive_s=7200).prospect(
        GRANT, record(), now_ms=NOW_MS
    )

    assert often == Prospect(if_used_ms=COMMITTED_MS + 300_000, if_idle_ms=COMMITTED_MS + 300_000)
    assert seldom == Prospect(if_used_ms=REFRESH_MS, if_idle_ms=COMMITTED_MS + 7_200_000)


@pytest.mark.parametrize("state", [GrantState.SENDING, GrantState.IN_DOUBT])
def test_an_unanswered_claim_is_looked_at_when_its_time_is_over(state: GrantState) -> None:
    """However fresh the stored token is, and whether or not it is in use."""
    unanswered = record(state=state, hold_until_ms=COMMITTED_MS + 5)

    assert schedule(RefreshAhead.ACTIVE).prospect(GRANT, unanswered, now_ms=NOW_MS) == Prospect(
        if_used_ms=COMMITTED_MS + 5, if_idle_ms=COMMITTED_MS + 5
    )
    assert schedule(RefreshAhead.OFF).prospect(GRANT, unanswered, now_ms=NOW_MS) == NEVER


@pytest.mark.parametrize("field", ["not_before_ms", "quarantine_until_ms", "lease_until_ms"])
def test_a_grant_is_not_due_while_it_could_not_be_claimed(field: str) -> None:
    """What the record says stands in the way is waited for, not run against."""
    blocked = record(**{field: REFRESH_MS + 7})

    prospect = schedule(RefreshAhead.ALL).prospect(GRANT, blocked, now_ms=NOW_MS)

    assert prospect.if_used_ms == REFRESH_MS + 7


@given(life_ms=st.integers(min_value=0, max_value=10_000))
def test_a_short_life_does_not_make_a_grant_due_all_the_time(life_ms: int) -> None:
    """A token service with odd lives, or a torn answer, is not asked in a loop."""
    short = record()
    short = replace(short, pair=replace(short.pair, expires_at_ms=COMMITTED_MS + life_ms))

    prospect = schedule(RefreshAhead.ALL).prospect(GRANT, short, now_ms=NOW_MS)

    assert prospect.if_used_ms is not None
    assert prospect.if_used_ms >= COMMITTED_MS + ProtocolTimes().ahead_least_s * 1000


def test_a_look_at_a_grant_has_one_of_three_ends() -> None:
    """Claim it, look again later, or let it go."""
    rules = schedule(RefreshAhead.ACTIVE)

    due = rules.judge(GRANT, record(), is_used=True, now_ms=REFRESH_MS)
    early = rules.judge(GRANT, record(), is_used=True, now_ms=REFRESH_MS - 1)
    idle = rules.judge(GRANT, record(), is_used=False, now_ms=REFRESH_MS)

    assert (due, early, idle) == (DueNow(), DueLater(at_ms=REFRESH_MS), NotDue())


def test_no_grant_used_within_the_window_counts_as_idle() -> None:
    """A use is told a tenth of the window late at most, and counts for as much longer."""
    rules = schedule(RefreshAhead.ACTIVE)
    told_ms = COMMITTED_MS
    last_use_ms = told_ms + int(rules.tell_use_every_s * 1000)

    assert rules.is_in_use(told_ms, now_ms=last_use_ms + 1_000_000)
    assert not rules.is_in_use(told_ms, now_ms=last_use_ms + 1_000_001)


def test_grants_are_spread_over_all_shards_and_each_shard_over_all_jitters() -> None:
    """No key of the store holds more than its share, and none holds the grants of one instant."""
    grants = [GrantId(sha256(b"%d" % number).hexdigest()[:32]) for number in range(4096)]

    shares = Counter(shard_of(grant) for grant in grants)

    assert set(shares) == set(range(SHARDS))
    assert max(shares.values()) < 2 * min(shares.values())
    assert shard_of(GrantId("f" + "0" * 31)) == shard_of(GrantId("0" * 32))
