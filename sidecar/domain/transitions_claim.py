"""The lease of a grant and the claim made under it: who may send the refresh token, and when.

Decides acquire, mark, keep, release and the adoption of an orphan, each as one pure step from a
record to a record and a verdict. Does not know where a record is stored, what a token looks like,
or what an identity provider answered.

A lease has two stages, so that a crash between taking it and sending is told apart from a crash
after sending: ``leased`` (nothing was sent, safe to take over when it ends) and ``sending`` (a
successor may exist, nobody else may claim before the hold ends). The lease only saves needless
attempts; a commit never looks at it.

A new incarnation of the store may have lost writes. The first acquire that meets it stamps the
record, voids a lease in which nothing was sent, and opens the quarantine, in which no mark
succeeds. ``quarantine_until_ms`` goes back to 0 with the next lease, so that a record in
``sending`` with a quarantine on it is one whose mark is older than the incarnation.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from sidecar.domain.bounds import LONGEST_WAIT_MS, bounded_until_ms, is_running
from sidecar.domain.commands import (
    Acquire,
    AcquireVerdict,
    AdoptOrphan,
    BackingOff,
    Busy,
    Dead,
    Done,
    Doubted,
    Fresh,
    HealingOver,
    Held,
    KeepHold,
    Leased,
    MarkSending,
    Missing,
    Moment,
    NewIncarnation,
    ProbeWithheld,
    Quarantined,
    Refused,
    Release,
    StepVerdict,
)
from sidecar.domain.record import GrantRecord, GrantState, LastError, Position

CLAIMING: Final = frozenset({GrantState.LEASED, GrantState.SENDING})


def without_claim(record: GrantRecord) -> GrantRecord:
    """Return the record with nothing left of a claim: no owner, no lease, no hold, no probe."""
    return replace(
        record,
        claim_id=None,
        replica_id=None,
        boot_id=None,
        lease_until_ms=0,
        marked_at_ms=0,
        hold_until_ms=0,
        is_probe=False,
    )


def stamped(error: LastError, moment: Moment) -> LastError:
    """Return the error with the store's clock in it."""
    return replace(error, at_ms=moment.now_ms)


def acquire(
    record: GrantRecord | None, command: Acquire, moment: Moment
) -> tuple[GrantRecord | None, AcquireVerdict]:
    """Lease the grant to the caller, or say what stands against it."""
    if record is None:
        return None, Missing()
    if record.state.is_dead:
        return record, Dead(state=record.state)
    if _is_replaced(record, command.known):
        return record, Fresh(record=record)
    if record.state is GrantState.LEASED and record.claim_id == command.claim_id:
        return record, Leased(record=record)
    if record.run_id != moment.run_id:
        met = command.incarnation
        if met is None or met.run_id != moment.run_id:
            return record, NewIncarnation(run_id=moment.run_id)
        record = _enter_incarnation(record, moment, met.met_at_ms + command.quarantine_ms)
    record = bounded(record, moment.now_ms)
    refusal = refusal_of(record, moment.now_ms, override_every_ms=command.override_every_ms)
    if refusal is not None:
        return record, refusal
    is_probe = record.state is GrantState.SENDING or record.is_probe
    if is_probe and not (command.may_probe or _may_go_on(record, command)):
        return record, ProbeWithheld()
    if record.not_before_ms > moment.now_ms:  # an order, which may: once, and not twice at once
        record = replace(record, not_before_ms=0, overridden_at_ms=moment.now_ms)
    leased = _leased(record, command, moment)
    return leased, Leased(record=leased)


def _may_go_on(record: GrantRecord, command: Acquire) -> bool:
    """Whether the caller gave back the claim of a process that it knows to be dead."""
    is_given_back = record.state is GrantState.ACTIVE
    return command.may_go_on and is_given_back and record.replica_id == command.replica_id


def bounded(record: GrantRecord, now_ms: int) -> GrantRecord:
    """Return the record with no instant further ahead than this protocol puts one.

    Another version may have written one, or the store's clock may have stepped back since. It is
    the record that is corrected, so that the wait has an end.
    """
    return replace(
        record,
        lease_until_ms=bounded_until_ms(record.lease_until_ms, now_ms=now_ms),
        hold_until_ms=bounded_until_ms(record.hold_until_ms, now_ms=now_ms),
        quarantine_until_ms=bounded_until_ms(record.quarantine_until_ms, now_ms=now_ms),
        not_before_ms=bounded_until_ms(record.not_before_ms, now_ms=now_ms),
        changed_at_ms=min(record.changed_at_ms, now_ms),
        committed_at_ms=min(record.committed_at_ms, now_ms),
    )


def _is_replaced(record: GrantRecord, known: Position) -> bool:
    stands = record.position
    return stands.consent_id != known.consent_id or stands.generation > known.generation


def _enter_incarnation(
    record: GrantRecord, moment: Moment, quarantine_until_ms: int
) -> GrantRecord:
    if record.state is GrantState.LEASED:  # nothing was sent, and its mark would be refused
        is_probe = record.is_probe
        record = replace(without_claim(record), state=GrantState.ACTIVE, is_probe=is_probe)
    hold_until_ms = record.hold_until_ms
    if record.state in (GrantState.SENDING, GrantState.IN_DOUBT):
        hold_until_ms = max(hold_until_ms, quarantine_until_ms)
    return replace(
        record,
        run_id=moment.run_id,
        quarantine_until_ms=quarantine_until_ms,
        hold_until_ms=hold_until_ms,
    )


def refusal_of(
    record: GrantRecord, now_ms: int, *, override_every_ms: int = 0
) -> Quarantined | Held | Doubted | HealingOver | BackingOff | Busy | None:
    """Return what keeps a live, `bounded` record from being leased now; ``None``: nothing does."""
    if record.quarantine_until_ms > now_ms:
        return Quarantined(until_ms=record.quarantine_until_ms)
    if record.state is GrantState.IN_DOUBT:
        if record.hold_until_ms > now_ms:
            return Doubted(until_ms=record.hold_until_ms, since_ms=record.changed_at_ms)
        return HealingOver(record=record)
    backoff_end_ms = _backoff_end_ms(record, override_every_ms, now_ms)
    if backoff_end_ms > now_ms:
        return BackingOff(until_ms=backoff_end_ms)
    if record.state is GrantState.LEASED and record.lease_until_ms > now_ms:
        return Busy(until_ms=record.lease_until_ms)
    if record.state is GrantState.SENDING and record.hold_until_ms > now_ms:
        return Held(until_ms=record.hold_until_ms)
    return None


def _backoff_end_ms(record: GrantRecord, every_ms: int, now_ms: int) -> int:
    """Return from when the caller need not wait for the backoff; an order may come sooner."""
    if not every_ms:
        return record.not_before_ms
    next_ms = record.overridden_at_ms + every_ms
    if not is_running(next_ms, now_ms=now_ms, longest_ms=every_ms):
        return 0
    return min(record.not_before_ms, next_ms)


def _leased(record: GrantRecord, command: Acquire | AdoptOrphan, moment: Moment) -> GrantRecord:
    return replace(
        without_claim(record),
        state=GrantState.LEASED,
        claim_id=command.claim_id,
        replica_id=command.replica_id,
        boot_id=command.boot_id,
        lease_until_ms=moment.now_ms + command.lease_ms,
        is_probe=record.state is GrantState.SENDING or record.is_probe,
        quarantine_until_ms=0,
    )


def mark_sending(
    record: GrantRecord | None, command: MarkSending, moment: Moment
) -> tuple[GrantRecord | None, StepVerdict]:
    """Note that the token may be spent from now on, if lease and incarnation still stand."""
    if (
        record is None
        or record.state not in CLAIMING
        or record.claim_id != command.claim_id
        or record.position != command.position
        or record.run_id != moment.run_id
        or record.quarantine_until_ms > moment.now_ms
    ):
        return record, Refused()
    if record.state is GrantState.SENDING:
        return record, Done()
    if record.lease_until_ms < moment.now_ms:
        return record, Refused()
    marked = replace(
        record,
        state=GrantState.SENDING,
        lease_until_ms=0,
        marked_at_ms=moment.now_ms,
        hold_until_ms=moment.now_ms + command.hold_ms,
        marks=record.marks + 1,
    )
    return marked, Done()


def keep_hold(
    record: GrantRecord | None, command: KeepHold, moment: Moment
) -> tuple[GrantRecord | None, StepVerdict]:
    """Hold strangers off for longer, while the claim is still in flight."""
    if (
        record is None
        or record.state is not GrantState.SENDING
        or record.claim_id != command.claim_id
        or record.run_id != moment.run_id
    ):
        return record, Refused()
    return replace(record, hold_until_ms=moment.now_ms + command.hold_ms), Done()


def release(
    record: GrantRecord | None, command: Release, moment: Moment
) -> tuple[GrantRecord | None, StepVerdict]:
    """End the caller's claim, of which no successor can appear any more.

    A probe stays one: what is over is this claim, not the one whose answer was never seen.
    """
    if record is None or record.claim_id != command.claim_id:
        return record, Refused()
    if record.state is GrantState.REVOKING:  # the order stands; only its wait is over
        return without_claim(record), Done()
    if record.state not in CLAIMING:
        return record, Refused()
    taken_back = command.is_unspent and record.state is GrantState.SENDING
    error = command.error
    backoff_ms = min(command.backoff_ms, LONGEST_WAIT_MS)
    released = replace(
        without_claim(record),
        state=GrantState.ACTIVE,
        is_probe=record.is_probe,
        replica_id=record.replica_id if command.is_orphan else None,
        marks=record.marks - 1 if taken_back else record.marks,
        not_before_ms=moment.now_ms + backoff_ms if backoff_ms > 0 else 0,
        failures=0 if error is None else record.failures + 1,
        last_error=record.last_error if error is None else stamped(error, moment),
    )
    return released, Done()


def adopt_orphan(
    record: GrantRecord | None, command: AdoptOrphan, moment: Moment
) -> tuple[GrantRecord | None, Leased | Refused]:
    """Lease a claim again to the replica that made it and died, without waiting for the hold."""
    if record is None or record.replica_id != command.replica_id:
        return record, Refused()
    if record.state is GrantState.LEASED and record.claim_id == command.claim_id:
        return record, Leased(record=record)
    if (
        record.state not in CLAIMING
        or record.claim_id != command.orphan_claim_id
        or record.run_id != moment.run_id
        or record.quarantine_until_ms > moment.now_ms
    ):
        return record, Refused()
    leased = replace(_leased(record, command, moment), is_probe=True)
    return leased, Leased(record=leased)
