"""How a grant comes to need a new consent: denial, healing time, settlement, invalidation.

Decides when a refused token may be believed. Does not know what the identity provider said, nor
whether the fleet brakes its settlements: the caller asks in that order. Nothing here is final: a
later commit of the same consent makes the grant active again.
"""

from __future__ import annotations

from dataclasses import replace

from sidecar.domain.commands import (
    BeingRevoked,
    CleanlyDenied,
    Dead,
    Deny,
    DenyVerdict,
    Done,
    Healed,
    InDoubt,
    Invalidate,
    Invalidated,
    InvalidateVerdict,
    Missing,
    Moment,
    NotOurs,
    Refused,
    Settle,
    SettleVerdict,
)
from sidecar.domain.record import GrantRecord, GrantState
from sidecar.domain.transitions_claim import stamped, without_claim


def deny(
    record: GrantRecord | None, command: Deny, moment: Moment
) -> tuple[GrantRecord | None, DenyVerdict]:
    """Doubt the grant whose token was refused, unless somebody already replaced the token."""
    if record is None:
        return None, Missing()
    if record.state in (GrantState.REVOKING, GrantState.REVOKED):
        is_ours = record.claim_id == command.claim_id
        return without_claim(record) if is_ours else record, BeingRevoked()
    stands, denied = record.position, command.position
    if stands.consent_id != denied.consent_id or denied.generation < stands.generation:
        return record, Healed(record=record)
    if stands != denied:  # the store fell behind what the caller claimed
        return record, NotOurs()
    if record.state is GrantState.IN_DOUBT:
        return record, _doubt(record, moment)
    if record.state is not GrantState.SENDING or record.claim_id != command.claim_id:
        return record, NotOurs()
    heal_ms = 0 if _is_clean(record, command, moment) else command.heal_ms
    doubted = replace(
        without_claim(record),
        state=GrantState.IN_DOUBT,
        is_probe=record.is_probe,  # the cause of the loss, if it turns out to be one
        hold_until_ms=moment.now_ms + heal_ms,
        last_error=stamped(command.error, moment),
        changed_at_ms=moment.now_ms,
    )
    return doubted, _doubt(doubted, moment)


def _doubt(record: GrantRecord, moment: Moment) -> InDoubt | CleanlyDenied:
    if record.hold_until_ms > moment.now_ms:
        return InDoubt(until_ms=record.hold_until_ms)
    return CleanlyDenied()


def _is_clean(record: GrantRecord, command: Deny, moment: Moment) -> bool:
    """Whether the denied request was provably the only one ever made with this token."""
    return (
        command.is_sole
        and record.marks == 1
        and not record.is_probe
        and record.committed_run_id == moment.run_id
    )


def settle(
    record: GrantRecord | None, command: Settle, moment: Moment
) -> tuple[GrantRecord | None, SettleVerdict]:
    """Believe a denial that nobody healed in time."""
    if record is None or record.position != command.position:
        return record, Refused()
    if record.state is GrantState.REAUTH_REQUIRED:
        return record, Dead(state=record.state)
    if record.state is not GrantState.IN_DOUBT or record.hold_until_ms > moment.now_ms:
        return record, Refused()
    return _lost(record, moment), Done()


def invalidate(
    record: GrantRecord | None, command: Invalidate, moment: Moment
) -> tuple[GrantRecord | None, InvalidateVerdict]:
    """Take a client's word that the consent is gone."""
    if record is None:
        return None, Missing()
    if record.state.is_dead:
        return record, Dead(state=record.state)
    lost = replace(_lost(record, moment), last_error=stamped(command.error, moment))
    return lost, Invalidated(was=record.state)


def _lost(record: GrantRecord, moment: Moment) -> GrantRecord:
    return replace(
        without_claim(record), state=GrantState.REAUTH_REQUIRED, changed_at_ms=moment.now_ms
    )
