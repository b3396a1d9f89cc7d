"""Each row of the table that revokes, erases or cools down."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sidecar.domain import transitions
from sidecar.domain.commands import (
    AlreadyRevoked,
    BeginRevocation,
    CoolDown,
    Cooling,
    Done,
    EndCoolDown,
    FinishRevocation,
    Missing,
    NotPurged,
    Purge,
    Purged,
    Refused,
    RevocationBegun,
    Superseded,
)
from sidecar.domain.record import GrantRecord, GrantState, Position
from tests.support.records import (
    CONSENT,
    HOLD_MS,
    MINE,
    NEWER_CONSENT,
    NOW,
    START,
    active,
    after,
    at,
    in_doubt,
    leased,
    mark,
    pair,
    release,
    revoked,
    revoking,
    sending,
)


def test_an_order_to_revoke_keeps_a_sent_claim_and_says_how_long_to_wait() -> None:
    """Its successor may still come, and must be revoked then."""
    record, verdict = transitions.apply(sending(), BeginRevocation(consent=CONSENT), at(1))

    assert record is not None
    assert (record.state, record.claim_id) == (GrantState.REVOKING, MINE)
    assert verdict == RevocationBegun(record=record, in_flight_until_ms=NOW + HOLD_MS)
    done = after(record, (release(), at(2)))
    assert (done.state, done.claim_id) == (GrantState.REVOKING, None)


@pytest.mark.parametrize("stands", [active(), leased(), in_doubt()])
def test_an_order_to_revoke_waits_for_nothing_where_nothing_was_sent(stands: GrantRecord) -> None:
    """A lease is void from then on."""
    record, verdict = transitions.apply(stands, BeginRevocation(consent=CONSENT), at(1))

    assert isinstance(verdict, RevocationBegun)
    assert verdict.in_flight_until_ms == 0
    assert transitions.apply(record, mark(START), at(1)) == (record, Refused())


def test_an_order_leaves_a_tombstone_where_there_is_no_record() -> None:
    """A pair that comes later finds it and is revoked."""
    record, verdict = transitions.apply(None, BeginRevocation(consent=CONSENT), at())

    assert record is not None
    assert (record.state, record.pair.generation) == (GrantState.REVOKING, -1)
    assert verdict == RevocationBegun(record=record, in_flight_until_ms=0)


def test_an_order_for_a_newer_consent_replaces_the_record() -> None:
    """The user's name stays readable for the list; nothing else of the old consent does."""
    record, _ = transitions.apply(active(4), BeginRevocation(consent=NEWER_CONSENT), at())

    assert record is not None
    assert record.position == Position(consent_id=NEWER_CONSENT.id, generation=-1)
    assert (record.pair.sealed_pair, record.pair.sealed_key) == (b"", b"sealed-key")


def test_an_order_for_an_older_consent_is_void() -> None:
    """A revocation never hits a newer consent."""
    stands = active(0, NEWER_CONSENT)

    verdict = transitions.apply(stands, BeginRevocation(consent=CONSENT), at())

    assert verdict == (stands, Superseded())


def test_a_finished_revocation_erases_the_tokens_and_keeps_the_name() -> None:
    """The tombstone shows where it stood; a second order finds it done."""
    tombstone = revoked()

    again = transitions.apply(tombstone, FinishRevocation(position=START), at())
    ordered = transitions.apply(tombstone, BeginRevocation(consent=CONSENT), at())

    assert tombstone.pair == replace(pair(), sealed_pair=b"", expires_at_ms=0)
    assert again == (tombstone, Done())
    assert ordered == (tombstone, AlreadyRevoked())


@pytest.mark.parametrize("record", [None, active(), revoking(active(1)), in_doubt()])
def test_only_what_the_provider_was_told_of_is_finished(record: GrantRecord | None) -> None:
    """A newer pair than the revoked one keeps the revocation open."""
    finish = FinishRevocation(position=START)

    assert transitions.apply(record, finish, at()) == (record, Refused())


def test_a_tombstone_is_erased_once_it_is_old_enough() -> None:
    """Before that the caller learns how long to wait; a live grant is never erased."""
    early = transitions.apply(revoked(), Purge(min_age_ms=1_000), at(400))
    late = transitions.apply(revoked(), Purge(min_age_ms=1_000), at(1_000))
    alive = transitions.apply(active(), Purge(min_age_ms=0), at())

    assert early == (revoked(), NotPurged(state=GrantState.REVOKED, wait_ms=600))
    assert late == (None, Purged())
    assert alive == (active(), NotPurged(state=GrantState.ACTIVE, wait_ms=0))
    assert transitions.apply(None, Purge(min_age_ms=0), at()) == (None, Missing())


def test_a_cool_down_doubles_to_its_limit() -> None:
    """Each opens after the one before it has ended, twice as long, and never beyond the limit."""
    ask = CoolDown(consent_id=CONSENT.id, product="balances", base_ms=30_000, limit_ms=100_000)
    now, spans = 0, list[int]()
    record: GrantRecord | None = active()

    for _ in range(40):
        record, verdict = transitions.apply(record, ask, at(now))
        assert isinstance(verdict, Cooling)
        assert transitions.apply(record, ask, at(now)) == (record, verdict)
        spans.append(verdict.until_ms - NOW - now)
        now = verdict.until_ms - NOW

    assert spans[:4] == [30_000, 60_000, 100_000, 100_000]
    assert set(spans[3:]) == {100_000}


def test_a_cool_down_ends_by_the_product_that_opened_it() -> None:
    """Success elsewhere says nothing about the product that was refused."""
    ask = CoolDown(consent_id=CONSENT.id, product="balances", base_ms=30_000, limit_ms=100_000)
    cooled = after(active(), (ask, at()))

    ended = transitions.apply(cooled, EndCoolDown(consent_id=CONSENT.id, product="balances"), at(1))

    assert ended == (active(), Done())
    for consent_id, product in ((CONSENT.id, "investments"), (NEWER_CONSENT.id, "balances")):
        other = EndCoolDown(consent_id=consent_id, product=product)
        assert transitions.apply(cooled, other, at(1)) == (cooled, Refused())
    elsewhere = replace(ask, consent_id=NEWER_CONSENT.id)
    assert transitions.apply(active(), elsewhere, at()) == (active(), Refused())
    assert transitions.apply(None, ask, at()) == (None, Missing())
