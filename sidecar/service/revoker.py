"""Revocation: an order on disk first, then the store, then Akoya, repeated until all three agree.

A store that forgets what it confirmed may bring a revoked grant back; so a carried out order is
remembered for a while, and given anew where that happens.

Serving stops with the store's mark. A refresh that is in flight ends first; its successor is what
Akoya must be told about, and a pair that turns up later makes the order live again.
"""

from __future__ import annotations

from collections import Counter
from typing import assert_never, final

from sidecar.domain import policy
from sidecar.domain.commands import (
    AlreadyRevoked,
    BeginRevocation,
    FinishRevocation,
    Refused,
    RevocationBegun,
    Superseded,
)
from sidecar.domain.events import (
    Event,
    GrantRevoked,
    Outcome,
    RevocationPostponed,
    TokenRequestEnded,
    TokenRequestFailed,
)
from sidecar.domain.failure import Disposition, FailureReason, Operation
from sidecar.domain.outcomes import (
    GrantGone,
    Obstacle,
    Postponed,
    RevocationDone,
    RevocationKept,
    RevokeOutcome,
)
from sidecar.domain.record import GrantId, GrantKey, GrantRecord, GrantState
from sidecar.domain.spooled import (
    ENDED_KEPT_S,
    ConsentEnded,
    PairForgotten,
    RevocationOrdered,
    RevocationSettled,
)
from sidecar.domain.token_wire import RevokeDone, read_reply
from sidecar.domain.tokens import TokenFailure
from sidecar.domain.wire import TokenReply
from sidecar.ports import SealError, StoreUnavailable
from sidecar.service import faults
from sidecar.service.asking import ask
from sidecar.service.claim_parts import ClaimParts

ROUNDS = 3


@final
class Revoker:
    """Carries revocation orders out."""

    def __init__(self, *, parts: ClaimParts) -> None:
        self._parts = parts
        self._due_s: dict[GrantId, float] = {}
        self._failures: Counter[GrantId] = Counter()
        self._told: dict[GrantId, str] = {}

    def is_due(self, grant: GrantId) -> bool:
        """Whether an order may be tried now: it is not under way, and its last pause is over."""
        return self._due_s.get(grant, 0.0) <= self._parts.clock.elapsed_s()

    async def revoke(self, key: GrantKey) -> RevokeOutcome:
        """Order the revocation of a grant and try at once; the order outlives this process."""
        grant = self._parts.vault.grant_id(key)
        try:
            record = await self._parts.store.read(grant)
        except StoreUnavailable:
            return Postponed(obstacle=Obstacle.STORE_AWAY, retry_in_s=1.0)
        if record is None:
            return GrantGone(state=None)
        order = RevocationOrdered(grant=grant, consent=record.pair.consent)
        if not self._parts.journal.keep(order):
            return Postponed(obstacle=Obstacle.SPOOL_AWAY, retry_in_s=1.0)
        return await self.carry_out(order)

    async def recall(self) -> None:
        """Give each order anew that was carried out lately, and that the store has forgotten.

        Raises:
            StoreUnavailable: Ask again.
        """
        since_s = self._parts.clock.now_s() - ENDED_KEPT_S
        for ended, at_s in list(self._parts.journal.state.ended.values()):
            if at_s < since_s:
                continue
            begin = BeginRevocation(consent=ended.consent)
            if isinstance(await self._parts.store.apply(ended.grant, begin), RevocationBegun):
                self._parts.journal.keep(
                    RevocationOrdered(grant=ended.grant, consent=ended.consent)
                )

    async def carry_out(self, order: RevocationOrdered) -> RevocationDone | RevocationKept:
        """Try to end an order; a kept one is due again after the pause it names."""
        pause_s = self._parts.times.revoke_retry_s
        self._due_s[order.grant] = float("inf")
        try:
            outcome = await self._try(order)
        except StoreUnavailable:
            outcome = RevocationKept(retry_in_s=pause_s)
        except Exception as error:  # noqa: BLE001 - reported; the order stands
            faults.report(self._parts.observer, where="revocation", error=error)
            outcome = RevocationKept(retry_in_s=self._pause_s(order.grant))
        finally:  # also where it is ended from outside
            self._due_s[order.grant] = self._parts.clock.elapsed_s() + pause_s
        if isinstance(outcome, RevocationDone):
            for kept in (self._due_s, self._failures, self._told):
                kept.pop(order.grant, None)
            return outcome
        self._due_s[order.grant] = self._parts.clock.elapsed_s() + outcome.retry_in_s
        self._tell(RevocationPostponed(grant=order.grant, retry_in_s=outcome.retry_in_s))
        return outcome

    def _pause_s(self, grant: GrantId, failure: TokenFailure | None = None) -> float:
        """Return how long an order waits after one more failure: longer with each in a row.

        Where Akoya refuses the app itself, the breaker sees to that for all.
        """
        times = self._parts.times
        is_of_the_app = failure is not None and (
            failure.reason is FailureReason.CLIENT_CREDENTIALS_INVALID
        )
        pause_s = policy.backoff(
            failures=0 if is_of_the_app else self._failures[grant],
            fraction=0.0,
            first_s=times.revoke_retry_s,
            limit_s=times.backoff_limit_s,
        )
        self._failures[grant] += not is_of_the_app
        return pause_s

    def _tell(self, event: Event) -> None:
        faults.tell(self._parts.observer, event, where="revocation")

    async def _try(self, order: RevocationOrdered) -> RevocationDone | RevocationKept:
        for _ in range(ROUNDS):
            verdict = await self._parts.store.apply(
                order.grant, BeginRevocation(consent=order.consent)
            )
            match verdict:
                case Superseded():
                    self._settle(order)
                    return RevocationDone()
                case AlreadyRevoked():
                    self._remember(order)
                    self._settle(order)
                    return RevocationDone()
                case RevocationBegun():
                    kept = await self._tell_akoya(order, verdict)
                    if kept is not None:
                        return kept
                    if await self._finish(order, verdict.record):
                        return RevocationDone()
                case _:
                    assert_never(verdict)
        return RevocationKept(retry_in_s=self._parts.times.revoke_retry_s)

    async def _tell_akoya(
        self, order: RevocationOrdered, begun: RevocationBegun
    ) -> RevocationKept | None:
        """Revoke the newest pair at Akoya; ``None``: it knows, or there is nothing to revoke."""
        if begun.in_flight_until_ms > self._parts.store_clock.now_ms():
            return RevocationKept(retry_in_s=self._parts.times.peer_poll_limit_s)
        # By its token and not by its position: a fork has the position of the pair it replaces.
        token = begun.record.pair.fingerprint
        if not begun.record.pair.sealed_pair or self._told.get(order.grant) == token:
            return None
        try:
            tokens = self._parts.vault.open_pair(order.grant, begun.record.pair)
        except SealError:
            return RevocationKept(retry_in_s=self._parts.times.revoke_retry_s)
        if not await self._parts.restraints.gate.lets_through():
            return RevocationKept(retry_in_s=self._parts.times.canary_every_s)
        started_s = self._parts.clock.elapsed_s()
        reply = await ask(
            self._parts, self._parts.requests.revoke(tokens.refresh_token), on_answer=_ignore
        )
        failure = _failure_of(reply)
        if failure is None:  # once is enough, whatever fails from here on
            self._told[order.grant] = token
        await self._parts.restraints.gate.learn(failure)
        self._tell(
            TokenRequestEnded(
                operation=Operation.REVOKE,
                outcome=Outcome.OK if failure is None else Outcome.FAILED,
                duration_s=self._parts.clock.elapsed_s() - started_s,
            )
        )
        kept = None if failure is None else await self._judge(order, begun.record, failure)
        if kept is None:
            self._told[order.grant] = token
        return kept

    async def _judge(
        self, order: RevocationOrdered, record: GrantRecord, failure: TokenFailure
    ) -> RevocationKept | None:
        retry_in_s = max(self._pause_s(order.grant, failure), failure.retry_after_s or 0.0)
        is_done = failure.disposition is Disposition.DONE
        if is_done:
            heal_s = await self._until_believed_s(record)
            is_done, retry_in_s = heal_s <= 0, max(retry_in_s, heal_s)
        self._tell(
            TokenRequestFailed(
                grant=order.grant,
                provider=self._provider_of(record, order),
                failure=failure,
                retry_in_s=None if is_done else retry_in_s,
            )
        )
        return None if is_done else RevocationKept(retry_in_s=retry_in_s, failure=failure)

    async def _until_believed_s(self, record: GrantRecord) -> float:
        """Return for how long "I do not know this token" may mean that its successor lives.

        Where the token may have been spent, or the store may have forgotten that it was, the fleet
        is given the time to bring the successor; it is what must be revoked then.
        """
        pulse = await self._parts.store.probe()
        if record.marks == 0 and record.committed_run_id in pulse.run_ids:
            return 0.0
        heal_ms = int(self._parts.times.heal_s * 1000)
        return (record.changed_at_ms + heal_ms - pulse.now_ms) / 1000

    async def _finish(self, order: RevocationOrdered, record: GrantRecord) -> bool:
        """Leave the tombstone; ``False``: a newer pair came meanwhile and must be revoked too."""
        finish = FinishRevocation(position=record.position)
        if isinstance(await self._parts.store.apply(order.grant, finish), Refused):
            return False
        self._remember(order)
        self._forget(order, record)
        self._settle(order)
        self._tell(GrantRevoked(grant=order.grant))
        try:
            await self._parts.store.tell(order.grant, GrantState.REVOKED, "")
        except StoreUnavailable:
            return True
        return True

    def _remember(self, order: RevocationOrdered) -> None:
        """Keep on disk that this consent is over: the store may forget its tombstone."""
        self._parts.journal.keep(ConsentEnded(grant=order.grant, consent=order.consent))

    def _forget(self, order: RevocationOrdered, record: GrantRecord) -> None:
        """Let the copy of the dead pair go, or its replay into an empty store would revive it.

        A newer one than `record`'s stays: the store may have forgotten it, and it is still to be
        revoked.
        """
        held = self._parts.journal.state.pairs.get(order.grant)
        if held is not None and held.pair.order <= record.pair.order:
            self._parts.journal.note(PairForgotten(grant=order.grant, position=held.pair.position))

    def _settle(self, order: RevocationOrdered) -> None:
        """Strike the order, unless it was given anew meanwhile (a successor was stored)."""
        if self._parts.journal.state.orders.get(order.grant) is order:
            self._parts.journal.note(RevocationSettled(grant=order.grant, consent=order.consent))

    def _provider_of(self, record: GrantRecord, order: RevocationOrdered) -> str:
        try:
            return self._parts.vault.open_key(order.grant, record.pair.sealed_key).provider
        except SealError:
            return ""


def _ignore(reply: TokenReply) -> None:
    """An answer to a revocation holds nothing that must be kept."""
    del reply


def _failure_of(reply: TokenReply) -> TokenFailure | None:
    reading = read_reply(Operation.REVOKE, reply)
    assert isinstance(reading, RevokeDone | TokenFailure)  # noqa: S101 - revoke brings no pair
    return reading if isinstance(reading, TokenFailure) else None
