"""How one claim ends: by what came of it, with the lease given back, a doubt, or a stored pair.

It is told what is known and carries the conclusion out; every step may be taken again after a fault
in it. It presents nothing, and does not decide whether to present again; `claim` does.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import assert_never, final

from sidecar.domain import policy
from sidecar.domain.commands import (
    BeingRevoked,
    CleanlyDenied,
    Command,
    Deny,
    DenyVerdict,
    Healed,
    InDoubt,
    Missing,
    NotOurs,
    Release,
    VerdictT_co,
)
from sidecar.domain.events import (
    ClaimEndedAs,
    ClaimKind,
    ClaimOutcome,
    ClaimVetoed,
    Event,
    GrantDoubted,
    TokenRequestFailed,
)
from sidecar.domain.failure import DISPOSITIONS, FailureReason
from sidecar.domain.outcomes import FoundNewer, GrantGone, Obstacle, Postponed
from sidecar.domain.record import GrantState, LastError
from sidecar.domain.spooled import ClaimEnded
from sidecar.domain.token_wire import ClaimFate, fate_of
from sidecar.domain.tokens import TokenFailure
from sidecar.ports import StoreUnavailable
from sidecar.service import faults
from sidecar.service.brake import HELD_S
from sidecar.service.claim_parts import Announce, ClaimParts, Ticket
from sidecar.service.presentations import ANSWER_LOST, ANSWER_LOST_HERE, Delivered, Unread
from sidecar.service.settler import Settlement
from sidecar.service.transmission import Transmission


@final
class ClaimEnding:
    """The ways out of one claim.

    Attributes:
        may_be_spent: An earlier presentation of this claim may have been processed.
        is_over: The store has heard how the claim ended.
    """

    def __init__(
        self,
        *,
        parts: ClaimParts,
        ticket: Ticket,
        announce: Announce,
        transmission: Transmission,
    ) -> None:
        self.may_be_spent = False
        self.is_over = False
        self._parts = parts
        self._ticket = ticket
        self._announce = announce
        self._transmission = transmission

    async def by_what_is_known(self) -> None:
        """End the claim by what came of its last presentation."""
        match self._transmission.result:
            case Delivered() as delivered:
                await self.deliver(delivered)
            case Unread():
                await self._conclude_unread()
            case TokenFailure() as failure if fate_of(failure) is ClaimFate.DENIED:
                await self.denied(failure)
            case TokenFailure() as failure:
                await self.give_back(failure)
            case None if self._transmission.is_unanswered:
                await self.give_back(ANSWER_LOST)
            case None:
                await self.vetoed(None)

    async def _conclude_unread(self) -> None:
        presentation = self._transmission.read_again()
        if isinstance(presentation, Unread):
            await self.doubt_unread()
        else:
            await self.by_what_is_known()

    async def deliver(self, delivered: Delivered) -> None:
        """Store the pair, and serve it to whoever waits."""
        await self._parts.committer.commit(delivered.received, is_live=True)
        self.is_over = True
        self._announce(delivered.refreshed)
        if self._ticket.claim_id in self._parts.journal.state.intents:
            self._note_end()  # the disk took the pair down in no way, and the store has it
        restraints = self._parts.restraints
        restraints.banks.learn(self._ticket.provider, None)
        restraints.brake.note_pair(self._ticket.grant)
        await restraints.gate.learn(None)
        taken_over = self._ticket.kind in (ClaimKind.PROBE, ClaimKind.ORPHAN)
        self._end(ClaimOutcome.TAKEN_OVER if taken_over else ClaimOutcome.WON)

    async def vetoed(self, failure: TokenFailure | None) -> None:
        """The store or the spool refused the first byte of this try; an earlier try may count."""
        self._observe(ClaimVetoed(grant=self._ticket.grant))
        backoff_s = 0.0 if failure is None else self._backoff_s(failure)
        await self._release(is_unspent=not self.may_be_spent, backoff_s=backoff_s, failure=failure)
        obstacle = Obstacle.BUSY if self._parts.journal.is_writable else Obstacle.SPOOL_AWAY
        retry_in_s = max(backoff_s, self._parts.times.peer_poll_first_s)
        self._announce(Postponed(obstacle=obstacle, retry_in_s=retry_in_s, failure=failure))
        self._end(ClaimOutcome.LOST)

    async def give_back(self, failure: TokenFailure) -> None:
        """Release the lease: no successor can appear any more, and the grant stays as it is."""
        backoff_s = self._backoff_s(failure)
        self.tell(failure, retry_in_s=backoff_s)
        self._announce(Postponed(obstacle=Obstacle.FAILED, retry_in_s=backoff_s, failure=failure))
        # Nobody knows whether an answer of an unknown kind spent the token.
        is_unknown = failure.reason is FailureReason.UNKNOWN
        was_spared = fate_of(failure) is ClaimFate.UNSPENT and not is_unknown
        is_unspent = was_spared and not self.may_be_spent
        await self._release(is_unspent=is_unspent, backoff_s=backoff_s, failure=failure)
        self._end(ClaimOutcome.LOST)

    def _backoff_s(self, failure: TokenFailure) -> float:
        times = self._parts.times
        is_unknown = failure.reason is FailureReason.UNKNOWN
        is_limited = failure.reason is FailureReason.RATE_LIMITED
        least_s = failure.retry_after_s or (times.rate_limit_least_s if is_limited else 0.0)
        pause_s = policy.backoff(
            failures=self._ticket.record.failures,
            fraction=self._parts.entropy.fraction(),
            first_s=times.backoff_first_s,
            limit_s=times.unknown_backoff_limit_s if is_unknown else times.backoff_limit_s,
        )
        return max(pause_s, least_s)

    async def denied(self, denial: TokenFailure) -> None:
        """Akoya says: invalid or already claimed. Look for a successor before believing it."""
        failure = self._named(denial)
        self.tell(failure)
        local = self._parts.journal.state.pairs.get(self._ticket.grant)
        if local is not None and local.pair.order > self._ticket.record.pair.order:
            await self._parts.committer.commit(local, is_live=False)
        verdict = await self._insist(self._deny(failure))
        self._note_end()
        await self._conclude_denial(failure, verdict)

    async def doubt_unread(self) -> None:
        """Doubt a grant whose successor lies in an answer that cannot be read here and now.

        To present the token once more would throw the successor away, and to hold the grant would
        let a stranger do so. The next start reads the answer again and heals the grant.
        """
        failure = ANSWER_LOST_HERE
        self.tell(failure)
        verdict = await self._insist(replace(self._deny(failure), is_sole=False))
        await self._conclude_denial(failure, verdict)  # with the answer left where it lies

    async def _conclude_denial(self, failure: TokenFailure, verdict: DenyVerdict | None) -> None:
        self.is_over = True
        match verdict:
            case Healed():
                self._announce(FoundNewer(record=verdict.record))
                self._end(ClaimOutcome.WAITED)
            case CleanlyDenied():
                # Settled first: within a trial of the brake it is the last one that may be.
                await self._settle(failure)
                await self._parts.restraints.brake.note_denial(self._ticket.grant)
            case InDoubt():
                await self._parts.restraints.brake.note_denial(self._ticket.grant)
                await self._doubt(failure, self._parts.store_clock.wait_s(verdict.until_ms))
            case BeingRevoked():
                self._gone(GrantState.REVOKING, failure)
            case Missing():
                self._gone(None, failure)
            case NotOurs() | None:
                self._announce(
                    Postponed(
                        obstacle=Obstacle.HELD,
                        retry_in_s=self._parts.times.peer_poll_first_s,
                        failure=failure,
                    )
                )
                self._end(ClaimOutcome.LOST)
            case _:
                assert_never(verdict)

    def _deny(self, failure: TokenFailure) -> Deny:
        return Deny(
            claim_id=self._ticket.claim_id,
            position=self._ticket.record.position,
            # Akoya says "no token" where we sent one: too strange to be believed at once.
            is_sole=self._transmission.sends == 1
            and failure.reason is not FailureReason.REFRESH_TOKEN_MISSING,
            heal_ms=int(self._parts.times.heal_s * 1000),
            error=self._last_error(failure),
        )

    def _named(self, denial: TokenFailure) -> TokenFailure:
        """Name a denial after an answer that was lost here for what it is: our loss."""
        lost_before = self._ticket.record.marks > 0 and not self._ticket.record.is_probe
        if not (self.may_be_spent or lost_before):
            return denial
        reason = FailureReason.ROTATION_LOST
        return replace(denial, reason=reason, disposition=DISPOSITIONS[reason])

    async def _settle(self, failure: TokenFailure) -> None:
        settler, position = self._parts.settler, self._ticket.record.position
        try:
            settlement = await settler.settle(self._ticket.grant, position)
        except StoreUnavailable:
            self._announce(Postponed(obstacle=Obstacle.STORE_AWAY, retry_in_s=1.0, failure=failure))
            self._end(ClaimOutcome.IN_DOUBT)
            return
        match settlement:
            case Settlement.SETTLED:
                self._gone(GrantState.REAUTH_REQUIRED, failure)
                return
            case Settlement.BRAKED:
                obstacle, retry_in_s = Obstacle.BRAKE_ON, HELD_S
            case Settlement.MOVED_ON:
                obstacle, retry_in_s = Obstacle.HELD, 0.0
        self._announce(Postponed(obstacle=obstacle, retry_in_s=retry_in_s, failure=failure))
        self._end(ClaimOutcome.IN_DOUBT)

    async def _doubt(self, failure: TokenFailure, heal_in_s: float) -> None:
        self._observe(
            GrantDoubted(grant=self._ticket.grant, reason=failure.reason, heal_in_s=heal_in_s)
        )
        self._announce(Postponed(obstacle=Obstacle.IN_DOUBT, retry_in_s=heal_in_s, failure=failure))
        self._end(ClaimOutcome.IN_DOUBT)
        with suppress(StoreUnavailable):
            await self._parts.store.call_fleet(self._ticket.grant)

    def _gone(self, state: GrantState | None, failure: TokenFailure) -> None:
        self._announce(GrantGone(state=state, failure=failure))
        self._end(ClaimOutcome.LOST)

    async def _release(
        self, *, is_unspent: bool, backoff_s: float, failure: TokenFailure | None
    ) -> None:
        await self._insist(
            Release(
                claim_id=self._ticket.claim_id,
                is_unspent=is_unspent,
                backoff_ms=int(backoff_s * 1000),
                error=None if failure is None else self._last_error(failure),
                is_orphan=self._ticket.kind is ClaimKind.ORPHAN,
            )
        )
        self.is_over = True
        self._note_end()

    async def _insist(self, command: Command[VerdictT_co]) -> VerdictT_co | None:
        """Repeat a command while the store is away, until the hold would be over anyway."""
        until_s = self._parts.clock.elapsed_s() + self._parts.times.hold_s
        while True:
            try:
                return await self._parts.store.apply(self._ticket.grant, command)
            except StoreUnavailable:
                if self._parts.clock.elapsed_s() > until_s:
                    return None
                await asyncio.sleep(self._parts.times.commit_retry_limit_s)

    def _note_end(self) -> None:
        self._parts.journal.note(
            ClaimEnded(grant=self._ticket.grant, claim_id=self._ticket.claim_id)
        )

    def _last_error(self, failure: TokenFailure) -> LastError:
        return LastError(operation=failure.operation.value, reason=failure.reason.value, at_ms=0)

    def tell(self, failure: TokenFailure, *, retry_in_s: float | None = None) -> None:
        """Tell the operator why a presentation brought no pair, and what happens next."""
        self._observe(
            TokenRequestFailed(
                grant=self._ticket.grant,
                provider=self._ticket.provider,
                failure=failure,
                retry_in_s=retry_in_s,
            )
        )

    def _end(self, outcome: ClaimOutcome) -> None:
        self._observe(ClaimEndedAs(grant=self._ticket.grant, outcome=outcome))

    def _observe(self, event: Event) -> None:
        faults.tell(self._parts.observer, event, where="claim")
