"""Each row of the table that leads to a new consent."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sidecar.domain import transitions
from sidecar.domain.commands import (
    CleanlyDenied,
    Dead,
    Done,
    Healed,
    InDoubt,
    Invalidate,
    Invalidated,
    Missing,
    NotOurs,
    Refused,
    Settle,
)
from sidecar.domain.record import GrantRecord, GrantState
from tests.support.records import (
    DENIED,
    HEAL_MS,
    NEWER_CONSENT,
    NOW,
    OTHER_RUN,
    START,
    THEIRS,
    active,
    at,
    deny,
    in_doubt,
    leased,
    pair,
    revoked,
    sending,
)


def test_the_only_request_on_a_proven_pair_is_denied_cleanly() -> None:
    """Nobody can hold a successor, so there is nothing to wait for."""
    record, verdict = transitions.apply(sending(), deny(START), at(9))

    assert verdict == CleanlyDenied()
    assert record is not None
    assert (record.state, record.hold_until_ms) == (GrantState.IN_DOUBT, NOW + 9)
    assert (record.changed_at_ms, record.claim_id) == (NOW + 9, None)
    assert record.last_error == replace(DENIED, at_ms=NOW + 9)
    assert transitions.apply(record, deny(START), at(9)) == (record, CleanlyDenied())


@pytest.mark.parametrize(
    ("record", "is_sole"),
    [
        (sending(), False),
        (replace(sending(), marks=2), True),
        (replace(sending(), is_probe=True), True),
        (replace(sending(), committed_run_id=None), True),
        (replace(sending(), committed_run_id=OTHER_RUN), True),
    ],
)
def test_any_other_denial_leaves_time_to_heal(record: GrantRecord, *, is_sole: bool) -> None:
    """Somebody may hold a successor: a second request, another claim, a forgotten commit."""
    doubted, verdict = transitions.apply(record, deny(START, is_sole=is_sole), at())

    assert verdict == InDoubt(until_ms=NOW + HEAL_MS)
    assert doubted is not None
    assert transitions.apply(doubted, deny(START), at()) == (doubted, verdict)


def test_a_denial_that_came_late_is_healed_by_what_stands() -> None:
    """The token was refused because it was replaced: use the newer pair."""
    for stands in (active(1), active(0, NEWER_CONSENT)):
        assert transitions.apply(stands, deny(START), at()) == (stands, Healed(record=stands))


def test_a_denial_of_somebody_elses_claim_is_not_believed() -> None:
    """Only the owner of the running claim may doubt, and only at the record's position."""
    for record in (sending(THEIRS), leased(), active()):
        assert transitions.apply(record, deny(START), at()) == (record, NotOurs())
    ahead = deny(pair(3).position)
    assert transitions.apply(sending(), ahead, at()) == (sending(), NotOurs())
    assert transitions.apply(None, deny(START), at()) == (None, Missing())


def test_a_doubt_is_settled_only_when_its_time_is_over() -> None:
    """Then the grant needs a new consent, and whoever asks later hears that it is dead already."""
    early = transitions.apply(in_doubt(), Settle(position=START), at(HEAL_MS - 1))
    record, verdict = transitions.apply(in_doubt(), Settle(position=START), at(HEAL_MS))

    assert early == (in_doubt(), Refused())
    assert verdict == Done()
    assert record is not None
    assert (record.state, record.changed_at_ms) == (GrantState.REAUTH_REQUIRED, NOW + HEAL_MS)
    later = transitions.apply(record, Settle(position=START), at())
    assert later == (record, Dead(state=GrantState.REAUTH_REQUIRED))


@pytest.mark.parametrize("record", [None, active(), sending(), active(1), revoked()])
def test_nothing_but_a_doubt_is_settled(record: GrantRecord | None) -> None:
    """A healed, running or revoked grant is left alone."""
    assert transitions.apply(record, Settle(position=START), at()) == (record, Refused())


@pytest.mark.parametrize("record", [active(), leased(), sending(), in_doubt()])
def test_a_client_may_say_that_the_consent_is_gone(record: GrantRecord) -> None:
    """Every live grant is then dead, until a later commit."""
    lost, verdict = transitions.apply(record, Invalidate(error=DENIED), at(3))

    assert verdict == Invalidated(was=record.state)
    assert lost is not None
    assert (lost.state, lost.claim_id) == (GrantState.REAUTH_REQUIRED, None)
    assert lost.last_error == replace(DENIED, at_ms=NOW + 3)
    again = transitions.apply(lost, Invalidate(error=DENIED), at(3))
    assert again == (lost, Dead(state=GrantState.REAUTH_REQUIRED))
