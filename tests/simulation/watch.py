"""The fleet's store under watch: each step on a record is compared with what the protocol allows.

It sees every command where it takes effect, with the record before and after it, and repeats some
of them at once. It keeps every version of every record, so that the store can be taken back to what
it was. It must not know who sent a command for what reason, nor the rules by which a step is made:
it judges what came out.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Final, cast, final

from sidecar.adapters.memory_store import MemoryTokenStore
from sidecar.domain.commands import (
    Acquire,
    AdoptOrphan,
    BeginRevocation,
    Command,
    Commit,
    Committed,
    Deny,
    Done,
    FinishRevocation,
    Invalidate,
    KeepHold,
    Leased,
    MarkSending,
    Moment,
    Release,
    RevokeSuccessor,
    Settle,
)
from sidecar.domain.record import ClaimId, ConsentId, GrantId, GrantRecord, GrantState, RunId
from sidecar.domain.transitions import AnyCommand
from tests.support.equivalence import is_equivalent

ENDING: Final = (GrantState.REVOKING, GrantState.REVOKED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """Who was given the right to claim what, and over which former claim.

    Attributes:
        boot: The start of the sidecar that has it.
        token: The refresh token that may be presented.
        former: The claim that was marked and not ended when this one began, with its owner.
    """

    at_s: float
    boot: str
    grant: GrantId
    consent_id: ConsentId
    token: str
    is_probe: bool
    former: Lease | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One command where it took effect."""

    grant: GrantId
    command: AnyCommand
    before: GrantRecord | None
    after: GrantRecord | None
    verdict: object
    moment: Moment


@final
class Watch:
    """Carries the fleet's commands out in a `MemoryTokenStore` and looks at each.

    Attributes:
        reached: How often each verdict was given.
        leases: Every lease that was given, by its claim.
        invalidated: Grants whose last end was a client's word.
        doubles: Asked whether a command is to be carried out twice.
        is_dead: Whether a start of a sidecar is over.
    """

    def __init__(
        self, store: MemoryTokenStore, *, quarantine_s: float, report: Callable[[str], None]
    ) -> None:
        self.reached: Counter[str] = Counter()
        self.leases: dict[ClaimId, Lease] = {}
        self.invalidated: set[GrantId] = set()
        self.doubles: Callable[[], bool] = lambda: False
        self.is_dead: Callable[[str], bool] = lambda _boot: True
        self._store = store
        self._quarantine_ms = int(quarantine_s * 1000)
        self._report = report
        self._versions: dict[GrantId, list[tuple[int, GrantRecord | None]]] = {}
        self._unproven: set[GrantId] = set()
        self._tokens: dict[ConsentId, str] = {}

    def restart(self, *, run_id: RunId, back_to_ms: int | None = None) -> None:
        """Begin another incarnation, with the records of an earlier instant if one is given."""
        store = self._store
        if back_to_ms is not None:
            for grant, versions in self._versions.items():
                at = bisect_right(versions, back_to_ms, key=lambda version: version[0])
                record = versions[at - 1][1] if at else None
                versions.append((store.now_ms, record))
                if record is None:
                    store.records.pop(grant, None)
                else:
                    store.records[grant] = record
        store.run_id = run_id
        self._unproven = set(store.records)

    def tokens_of(self, consents: Iterable[ConsentId]) -> list[str]:
        """Return a refresh token of each of these consents, where one ever came to the store."""
        return [self._tokens[consent] for consent in consents if consent in self._tokens]

    async def apply(self, grant: GrantId, command: Command[Any]) -> Any:
        """Carry out one command, perhaps twice, and judge what came of it."""
        store, known = self._store, cast("AnyCommand", command)
        before, moment = store.records.get(grant), store.moment
        verdict = await store.apply(grant, command)
        after = store.records.get(grant)
        step = Step(
            grant=grant,
            command=known,
            before=before,
            after=after,
            verdict=verdict,
            moment=moment,
        )
        self.reached[type(verdict).__name__] += 1
        if after is not before:
            self._versions.setdefault(grant, []).append((moment.now_ms, after))
        self._judge(step)
        if self.doubles():
            again = await store.apply(grant, command)
            self.reached["doubled"] += 1
            if store.records.get(grant) != after or not is_equivalent(known, verdict, again):
                self._report(f"I18: {command} twice: {verdict}, then {again}")
        return verdict

    def _judge(self, step: Step) -> None:
        """Compare one step with what the protocol allows."""
        if isinstance(step.verdict, Leased):
            self._lease(step, cast("Acquire | AdoptOrphan", step.command), step.verdict)
        if isinstance(step.command, Commit):
            self._judge_commit(step, step.command)
        if step.before is None or step.after is None or step.after is step.before:
            return
        self._judge_change(step, step.before, step.after)
        if isinstance(step.command, MarkSending) and isinstance(step.verdict, Done):
            self._judge_mark(step, step.before)

    def _judge_change(self, step: Step, before: GrantRecord, after: GrantRecord) -> None:
        if after.pair.order < before.pair.order:
            self._report(f"I6: {before.pair.order} became {after.pair.order}")
        is_same = before.pair.consent.id == after.pair.consent.id
        if is_same and before.state in ENDING and after.state not in ENDING:
            self._report(f"I11: {before.state} became {after.state}")
        if after.state is GrantState.REAUTH_REQUIRED and before.state is not after.state:
            is_word = isinstance(step.command, Invalidate)
            is_settled = isinstance(step.command, Settle) and before.state is GrantState.IN_DOUBT
            if not (is_word or is_settled):
                self._report(f"I9: {type(step.command).__name__} on {before.state}")
            if is_settled and before.hold_until_ms > step.moment.now_ms:
                self._report("I9: settled before its time")
            (self.invalidated.add if is_word else self.invalidated.discard)(step.grant)
        if self._is_of_an_older_consent(step.command, before):
            self._report(f"I12: {step.command} changed {before.pair.consent}")

    def _judge_commit(self, step: Step, command: Commit) -> None:
        """I7: a newer pair is stored, whatever stands; under a revocation it is to be revoked."""
        before = step.before
        self._tokens[command.pair.consent.id] = command.pair.fingerprint
        if command.is_live and command.pair.generation == 0 and isinstance(step.verdict, Committed):
            self._unproven.discard(step.grant)
        if before is None or command.pair.order <= before.pair.order:
            return
        is_same = before.pair.consent.id == command.pair.consent.id
        is_under = is_same and before.state in ENDING
        if not isinstance(step.verdict, RevokeSuccessor if is_under else Committed):
            self._report(f"I7: {command.pair.order} over {before.pair.order}: {step.verdict}")

    def _judge_mark(self, step: Step, before: GrantRecord) -> None:
        """I16: by the record, and by when the incarnation was met, which no record knows."""
        now_ms, run_id = step.moment.now_ms, step.moment.run_id
        met_ms = self._store.incarnations.get(run_id)
        if before.run_id != run_id or before.quarantine_until_ms > now_ms:
            self._report("I16: marked in a quarantine")
        if step.grant in self._unproven and (
            self._is_later(run_id) and (met_ms is None or now_ms < met_ms + self._quarantine_ms)
        ):
            self._report("I16: marked before the peers had time to replay")

    def _is_later(self, run_id: RunId) -> bool:
        return len(self._store.incarnations) > 1 or run_id not in self._store.incarnations

    def _lease(self, step: Step, command: Acquire | AdoptOrphan, verdict: Leased) -> None:
        before, record = step.before, verdict.record
        former = None
        if before is not None and before.claim_id is not None and before is not step.after:
            former = self.leases.get(before.claim_id)
        if before is not None and before.state is GrantState.SENDING and former is not None:
            is_over = before.hold_until_ms <= step.moment.now_ms
            is_orphan = isinstance(command, AdoptOrphan) and self.is_dead(former.boot)
            if not (is_over or is_orphan):
                self._report(f"I10: {command.boot_id} took a claim of {former.boot} over")
        if command.claim_id in self.leases:
            return
        self.leases[command.claim_id] = Lease(
            at_s=step.moment.now_ms / 1000,
            boot=command.boot_id,
            grant=step.grant,
            consent_id=record.position.consent_id,
            token=record.pair.fingerprint,
            is_probe=record.is_probe,
            former=None if former is None else replace(former, former=None),
        )

    def _is_of_an_older_consent(self, command: AnyCommand, before: GrantRecord) -> bool:
        stands = before.pair.consent
        match command:
            case Commit():
                return command.pair.consent.order < stands.order
            case BeginRevocation():
                return command.consent.order < stands.order
            case Deny() | Settle() | MarkSending() | FinishRevocation():
                return command.position.consent_id != stands.id
            case KeepHold() | Release():
                lease = self.leases.get(command.claim_id)
                return lease is not None and lease.consent_id != stands.id
            case _:
                return False
