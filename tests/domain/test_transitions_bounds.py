"""Records that another version wrote, or another clock; and the one order that skips a backoff."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random

import pytest

from sidecar.domain import transitions
from sidecar.domain.bounds import LONGEST_WAIT_MS
from sidecar.domain.commands import (
    Acquire,
    AcquireVerdict,
    BackingOff,
    BeginRevocation,
    Busy,
    CoolDown,
    Cooling,
    Dead,
    Doubted,
    Held,
    Incarnation,
    Leased,
    NotPurged,
    ProbeWithheld,
    Purge,
    Quarantined,
    RevocationBegun,
)
from sidecar.domain.record import ClaimId, GrantRecord, GrantState
from tests.support.random_commands import (
    ORDER_EVERY_MS,
    RUNS,
    START_MS,
    random_command,
)
from tests.support.records import (
    CONSENT,
    HOLD_MS,
    LEASE_MS,
    MINE,
    NOW,
    OTHER_RUN,
    START,
    THEIRS,
    acquire,
    active,
    after,
    at,
    in_doubt,
    leased,
    mark,
    release,
    sending,
)

YEAR_MS = 31_536_000_000
EVERY_MS = 30_000


def ask(
    record: GrantRecord | None, command: Acquire, offset_ms: int = 0
) -> tuple[GrantRecord, AcquireVerdict]:
    """Ask for the lease of a grant that has a record."""
    stands, verdict = transitions.apply(record, command, at(offset_ms))
    assert stands is not None
    return stands, verdict


def order(claim_id: ClaimId = THEIRS) -> Acquire:
    """Return an operator's order."""
    return replace(acquire(START, THEIRS), claim_id=claim_id, override_every_ms=EVERY_MS)


@pytest.mark.parametrize(
    ("record", "field", "verdict"),
    [
        (active(), "not_before_ms", BackingOff),
        (active(), "quarantine_until_ms", Quarantined),
        (leased(), "lease_until_ms", Busy),
        (sending(), "hold_until_ms", Held),
        (in_doubt(), "hold_until_ms", Doubted),
    ],
    ids=["backoff", "quarantine", "lease", "hold", "healing"],
)
@pytest.mark.parametrize("ahead_ms", [LONGEST_WAIT_MS, LONGEST_WAIT_MS + 1, YEAR_MS])
def test_no_instant_of_a_record_keeps_a_user_waiting_for_longer_than_ten_minutes(
    record: GrantRecord, field: str, verdict: type, ahead_ms: int
) -> None:
    """What lies further ahead is corrected in the record, so that the wait has an end."""
    far = replace(record, **{field: NOW + ahead_ms})  # type: ignore[arg-type]

    stands, answer = ask(far, acquire(START, THEIRS))
    again, _ = ask(stands, acquire(START, THEIRS), LONGEST_WAIT_MS - 1)
    _, over = ask(again, acquire(START, THEIRS), LONGEST_WAIT_MS)

    assert isinstance(answer, verdict)
    assert getattr(answer, "until_ms", None) == NOW + LONGEST_WAIT_MS
    assert getattr(stands, field) == NOW + LONGEST_WAIT_MS
    assert again == stands, "asked again, it does not begin again"
    assert not isinstance(over, verdict)


def test_an_incarnation_that_was_met_in_the_future_quarantines_for_ten_minutes_at_most() -> None:
    """The store's clock stepped back after a failover: claims wait, but not for a year."""
    met = Incarnation(run_id=OTHER_RUN, met_at_ms=NOW + YEAR_MS)

    moment = at(run_id=OTHER_RUN)
    stands, verdict = transitions.apply(active(), acquire(START, met=met), moment)

    assert verdict == Quarantined(until_ms=NOW + LONGEST_WAIT_MS)
    assert stands is not None
    assert stands.quarantine_until_ms == NOW + LONGEST_WAIT_MS


@pytest.mark.parametrize(
    ("asked_ms", "kept_ms"),
    [(0, 0), (1, 1), (600_000, 600_000), (600_001, 600_000), (YEAR_MS, 600_000)],
)
def test_a_release_backs_off_for_ten_minutes_at_most(asked_ms: int, kept_ms: int) -> None:
    """Whatever a caller of the store takes for a good pause."""
    released = after(sending(), (release(backoff_ms=asked_ms), at()))

    assert released is not None
    assert released.not_before_ms == (NOW + kept_ms if kept_ms else 0)


def test_a_revocation_waits_ten_minutes_at_most_for_a_claim_in_flight() -> None:
    """A hold of another clock does not keep Akoya from being told for a year."""
    far = replace(sending(), hold_until_ms=NOW + YEAR_MS)

    _, verdict = transitions.apply(far, BeginRevocation(consent=CONSENT), at())

    assert isinstance(verdict, RevocationBegun)
    assert verdict.in_flight_until_ms == NOW + LONGEST_WAIT_MS


def test_an_erasure_counts_from_now_where_the_end_lies_in_the_future() -> None:
    """A tombstone of another clock is as young as can be, and grows old from then on."""
    dead = replace(active(), state=GrantState.REVOKED, changed_at_ms=NOW + YEAR_MS)
    purge = Purge(min_age_ms=1_000)

    stands, early = transitions.apply(dead, purge, at())
    _, late = transitions.apply(stands, purge, at(1_000))

    assert early == NotPurged(state=GrantState.REVOKED, wait_ms=1_000)
    assert not isinstance(late, NotPurged)


def test_a_cool_down_of_another_clock_is_opened_afresh() -> None:
    """It is not waited for, and the next one is as long as ours are."""
    command = CoolDown(
        consent_id=CONSENT.id, product="balances", base_ms=30_000, limit_ms=3_600_000
    )
    longest = replace(active(), cool_until_ms=NOW + 3_600_000)
    far = replace(active(), cool_until_ms=NOW + 3_600_001)

    assert transitions.apply(longest, command, at())[1] == Cooling(until_ms=NOW + 3_600_000)
    assert transitions.apply(far, command, at())[1] == Cooling(until_ms=NOW + 30_000)


def backing_off(until_ms: int = NOW + 500_000) -> GrantRecord:
    """Return a grant whose last refresh failed."""
    return replace(active(), not_before_ms=until_ms, failures=3)


def test_an_order_skips_a_backoff_and_a_plain_call_does_not() -> None:
    """A person who knows that the cause is gone need not wait; an application does."""
    plain, refused = ask(backing_off(), acquire(START))
    stands, verdict = ask(backing_off(), order())

    assert (plain, refused) == (backing_off(), BackingOff(until_ms=NOW + 500_000))
    assert verdict == Leased(record=stands)
    assert (stands.state, stands.not_before_ms) == (GrantState.LEASED, 0)
    assert (stands.overridden_at_ms, stands.failures) == (NOW, 3)


def test_an_order_is_obeyed_once_in_thirty_seconds() -> None:
    """A second one waits like a plain call, or for the rest of the thirty seconds."""
    first, _ = ask(backing_off(), order())
    failed = after(
        first,
        (mark(START, THEIRS), at(100)),
        (release(THEIRS, backoff_ms=500_000), at(200)),
    )
    assert failed is not None

    waiting, soon = ask(failed, order(), 10_000)
    _, last = ask(failed, order(), EVERY_MS - 1)
    second, obeyed = ask(failed, order(), EVERY_MS)

    assert (waiting, soon) == (failed, BackingOff(until_ms=NOW + EVERY_MS))
    assert last == BackingOff(until_ms=NOW + EVERY_MS)
    assert isinstance(obeyed, Leased)
    assert second.overridden_at_ms == NOW + EVERY_MS


def test_an_order_that_came_too_soon_waits_for_the_backoff_if_that_ends_first() -> None:
    """The remaining time is the time after which something can come of it."""
    recent = replace(backing_off(NOW + 5_000), overridden_at_ms=NOW)

    assert ask(recent, order())[1] == BackingOff(until_ms=NOW + 5_000)


def test_an_order_where_no_backoff_stands_is_not_counted() -> None:
    """What skips nothing uses nothing up."""
    stands, verdict = ask(active(), order())

    assert isinstance(verdict, Leased)
    assert stands.overridden_at_ms == 0


def test_two_orders_at_once_are_one() -> None:
    """On two sidecars, the second finds the lease of the first; alone, its reply may be lost."""
    first, _ = ask(backing_off(), order())

    assert ask(first, order(MINE))[1] == Busy(until_ms=NOW + LEASE_MS)
    assert ask(first, order()) == (first, Leased(record=first))


def test_a_caller_that_waits_for_an_ordered_claim_waits_for_its_end() -> None:
    """A plain call meets the claim in flight, and not the backoff that the order skipped."""
    ordered, _ = ask(backing_off(), order())
    sent = after(ordered, (mark(START, THEIRS), at(100)))

    assert ask(sent, acquire(START), 200)[1] == Held(until_ms=NOW + 100 + HOLD_MS)


@pytest.mark.parametrize("backoff_ms", [0, NOW + 500_000])
@pytest.mark.parametrize(
    ("record", "verdict"),
    [
        (replace(active(), state=GrantState.REAUTH_REQUIRED), Dead),
        (replace(active(), state=GrantState.REVOKING), Dead),
        (replace(active(), quarantine_until_ms=NOW + 60_000), Quarantined),
        (in_doubt(), Doubted),
        (leased(), Busy),
        (sending(), Held),
        (replace(sending(), hold_until_ms=NOW - 1), ProbeWithheld),
    ],
    ids=["dead", "revoking", "quarantine", "doubt", "lease", "hold", "probe"],
)
def test_an_order_skips_nothing_but_a_backoff(
    record: GrantRecord, verdict: type, backoff_ms: int
) -> None:
    """Holds, doubts, quarantines, leases and forbidden probes are for the token's own good."""
    asked = replace(order(ClaimId("d7" * 16)), may_probe=False)

    stands, answer = ask(replace(record, not_before_ms=backoff_ms), asked)

    assert isinstance(answer, verdict)
    assert stands.overridden_at_ms == 0


def test_an_order_of_the_future_counts_for_nothing() -> None:
    """The store's clock stepped back: orders are obeyed again at once."""
    recent = replace(backing_off(), overridden_at_ms=NOW + YEAR_MS)

    assert isinstance(ask(recent, order())[1], Leased)


def test_orders_skip_backoffs_only_and_never_twice_at_once() -> None:
    """Whatever happens to a grant: each order that skipped one found nothing else in the way."""
    reached: Counter[str] = Counter()
    for seed in range(500):
        rng = Random(seed)  # noqa: S311 - repeatable on purpose
        record: GrantRecord | None = None
        moment = replace(at(), now_ms=START_MS, run_id=RUNS[0])
        for _ in range(120):
            moment = replace(moment, now_ms=moment.now_ms + rng.choice((0, 1, 100, 2_000)))
            command = random_command(rng, record, moment)
            stands, _ = transitions.apply(record, command, moment)
            if record is not None and stands is not None:
                was, now = record.overridden_at_ms, stands.overridden_at_ms
                if now > was:
                    reached["skipped again" if was else "skipped"] += 1
                    assert isinstance(command, Acquire)
                    assert command.override_every_ms
                    assert now == moment.now_ms >= was + (ORDER_EVERY_MS if was else 0)
                    assert record.state not in (GrantState.IN_DOUBT, *DEAD)
                    assert record.hold_until_ms <= now
                    assert max(record.lease_until_ms, record.quarantine_until_ms) <= now
            record = stands

    assert min(reached["skipped"], reached["skipped again"]) > 8, reached


DEAD = (GrantState.REAUTH_REQUIRED, GrantState.REVOKING, GrantState.REVOKED)
