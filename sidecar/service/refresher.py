"""One wish for a newer pair: what stands in the way, who has the lease, and the claim itself.

It asks the own spool before the store (a pair that waits here is newer than what the store shows)
and the store before Akoya. It never waits for a peer; whoever wished decides whether to ask again.
"""

from __future__ import annotations

from typing import final

from sidecar.domain.commands import (
    AcquireVerdict,
    AdoptOrphan,
    Fresh,
    HealingOver,
    Leased,
    Quarantined,
)
from sidecar.domain.events import (
    BackoffOverridden,
    ClaimEndedAs,
    ClaimKind,
    ClaimOutcome,
    RecordQuarantined,
    RecordUnreadable,
)
from sidecar.domain.outcomes import GrantGone, Obstacle, Postponed, Refreshed
from sidecar.domain.policy import ProbePolicy
from sidecar.domain.record import ClaimId, GrantId, GrantRecord, GrantState
from sidecar.domain.spooled import ClaimEnded, ClaimIntended, PairReceived
from sidecar.domain.tracing import SpanName
from sidecar.ports import SealError, StoreUnavailable
from sidecar.service.brake import HELD_S
from sidecar.service.claim import Claim
from sidecar.service.claim_parts import Announce, ClaimParts, RefreshWish, Ticket
from sidecar.service.lease_refusals import without_lease
from sidecar.service.leases import Leases
from sidecar.service.settler import Settlement

UNREADABLE_RETRY_S = 30.0

_BREAKER_OPEN = Postponed(obstacle=Obstacle.BREAKER_OPEN, retry_in_s=1.0)


@final
class Refresher:
    """Turns wishes into claims."""

    def __init__(self, *, parts: ClaimParts) -> None:
        self._parts = parts
        self._leases = Leases(parts=parts)

    async def refresh(self, wish: RefreshWish, announce: Announce) -> None:
        """Try to replace the pair at `wish.known`; announces exactly what came of it."""
        if (obstacle := await self._obstacle(wish.provider)) is not None:
            announce(obstacle)
            return
        if self._holds_unread_answer(wish):
            announce(Postponed(obstacle=Obstacle.UNREADABLE, retry_in_s=UNREADABLE_RETRY_S))
            return
        local = self._parts.journal.state.pairs.get(wish.grant)
        is_parked = local is not None and wish.grant in self._parts.journal.state.parked
        if local is not None and is_parked and not await self._drain(local, wish, announce):
            return
        claim_id = ClaimId(self._parts.entropy.new_id())
        verdict = await self._leases.acquire(wish, claim_id)
        if isinstance(verdict, Leased):
            if self._is_override(verdict.record):
                self._parts.observer.observe(BackoffOverridden(grant=wish.grant))
            kind = self._kind(wish, verdict.record)
            await self._claim(wish, claim_id, verdict.record, kind=kind, announce=announce)
        elif isinstance(verdict, HealingOver):
            await self._settle(wish, verdict.record, announce)
        else:
            self._tell(wish.grant, verdict)
            announce(without_lease(verdict, self._parts.store_clock, self._parts.times))

    def held_back(self, provider: str | None) -> Postponed | None:
        """Return what is known to stop every claim of a bank (``None``: any) for now."""
        restraints = self._parts.restraints
        if not self._parts.journal.is_writable:
            return Postponed(obstacle=Obstacle.SPOOL_AWAY, retry_in_s=1.0)
        if restraints.brake.is_on:
            return Postponed(obstacle=Obstacle.BRAKE_ON, retry_in_s=HELD_S)
        wait_s = restraints.gate.wait_s
        if provider is not None:
            wait_s = max(wait_s, restraints.banks.wait_s(provider))
        return Postponed(obstacle=Obstacle.BREAKER_OPEN, retry_in_s=wait_s) if wait_s else None

    async def adopt(self, intent: ClaimIntended, claim_id: ClaimId, announce: Announce) -> bool:
        """Repeat at once, as `claim_id`, the claim of a dead process whose spool is ours now.

        Returns:
            Whether the intent was dealt with; otherwise something stands in the way: ask again.

        Raises:
            StoreUnavailable: The intent stays; ask again with the same `claim_id`.
        """
        if await self._obstacle(None) is not None:
            return False
        verdict = await self._parts.store.apply(
            intent.grant,
            AdoptOrphan(
                orphan_claim_id=intent.claim_id,
                replica_id=intent.replica_id,
                claim_id=claim_id,
                boot_id=self._parts.identity.boot_id,
                lease_ms=int(self._parts.times.lease_s * 1000),
            ),
        )
        if isinstance(verdict, Leased):
            provider = self._provider_of(intent.grant, verdict.record)
            wish = RefreshWish(grant=intent.grant, provider=provider, known=intent.position)
            await self._claim(
                wish, claim_id, verdict.record, kind=ClaimKind.ORPHAN, announce=announce
            )
        self._parts.journal.note(ClaimEnded(grant=intent.grant, claim_id=intent.claim_id))
        return True

    def _kind(self, wish: RefreshWish, record: GrantRecord) -> ClaimKind:
        """Return why the token of a leased record is presented."""
        if not record.is_probe:
            return ClaimKind.FIRST
        goes_on = self._parts.policy.probes is ProbePolicy.OWNER_ONLY and not wish.is_ordered
        return ClaimKind.ORPHAN if goes_on else ClaimKind.PROBE

    def _holds_unread_answer(self, wish: RefreshWish) -> bool:
        """Whether the successor lies here in an answer that this sidecar cannot read (yet).

        Its token is spent: presented again, it could cost the live pair. The key, or a sidecar
        that reads better, brings the successor out; a new consent makes it worthless.
        """
        return any(
            answer.grant == wish.grant
            and answer.position.consent_id == wish.known.consent_id
            and answer.position.generation >= wish.known.generation
            for answer in self._parts.journal.state.answers.values()
        )

    async def _obstacle(self, provider: str | None) -> Postponed | None:
        """Return what stops a claim before it begins; one that may try is a breaker's canary."""
        held_back = self.held_back(provider)
        if held_back is not None:
            return held_back
        restraints = self._parts.restraints
        if provider is not None:
            restraints.banks.note_leaving(provider)
        is_held = not await restraints.gate.lets_through()
        return self.held_back(None) or _BREAKER_OPEN if is_held else None

    async def _drain(self, local: PairReceived, wish: RefreshWish, announce: Announce) -> bool:
        """Store the pair that waits here before anything is claimed; return whether to go on."""
        try:
            await self._parts.committer.offer(local, is_live=False)
        except StoreUnavailable:
            if _is_successor(local, wish):
                self._announce_local(local, announce)
            else:
                announce(Postponed(obstacle=Obstacle.STORE_AWAY, retry_in_s=1.0))
            return False
        return True

    def _announce_local(self, local: PairReceived, announce: Announce) -> None:
        try:
            tokens = self._parts.vault.open_pair(local.grant, local.pair)
        except SealError as error:
            self._unreadable(local.grant, error, announce)
            return
        announce(Refreshed(pair=local.pair, tokens=tokens))

    def _is_override(self, leased: GrantRecord) -> bool:
        """Whether this very lease skipped a backoff."""
        leased_at_ms = leased.lease_until_ms - int(self._parts.times.lease_s * 1000)
        return leased.overridden_at_ms == leased_at_ms

    async def _settle(self, wish: RefreshWish, record: GrantRecord, announce: Announce) -> None:
        try:
            settlement = await self._parts.settler.settle(wish.grant, record.position)
        except StoreUnavailable:
            announce(Postponed(obstacle=Obstacle.STORE_AWAY, retry_in_s=1.0))
            return
        match settlement:
            case Settlement.SETTLED:
                announce(GrantGone(state=GrantState.REAUTH_REQUIRED))
            case Settlement.BRAKED:
                announce(Postponed(obstacle=Obstacle.BRAKE_ON, retry_in_s=HELD_S))
            case Settlement.MOVED_ON:
                announce(Postponed(obstacle=Obstacle.HELD, retry_in_s=0.0))

    async def _claim(
        self,
        wish: RefreshWish,
        claim_id: ClaimId,
        record: GrantRecord,
        *,
        kind: ClaimKind,
        announce: Announce,
    ) -> None:
        local = self._parts.journal.state.pairs.get(wish.grant)
        if local is not None and local.pair.order > record.pair.order:
            await self._parts.committer.commit(local, is_live=False)
            self._announce_local(local, announce)
            self._end(wish.grant, ClaimOutcome.WAITED)
            return
        is_orphan = kind is ClaimKind.ORPHAN
        try:
            ticket = Ticket(
                grant=wish.grant,
                provider=wish.provider,
                claim_id=claim_id,
                record=record,
                tokens=self._parts.vault.open_pair(wish.grant, record.pair),
                kind=kind,
            )
            claim = Claim(parts=self._parts, ticket=ticket, announce=announce)
        except SealError as error:
            self._unreadable(wish.grant, error, announce)
            await self._leases.give_back(
                wish.grant, claim_id, why=Obstacle.UNREADABLE, is_orphan=is_orphan
            )
            return
        except Exception:  # it goes on, but not with a lease that nobody uses
            await self._leases.give_back(
                wish.grant, claim_id, why=Obstacle.FAILED, is_orphan=is_orphan
            )
            raise
        span = self._parts.tracer.span(SpanName.CLAIM)
        with span, self._parts.committer.in_hand(wish.grant):
            await claim.run()

    def _unreadable(self, grant: GrantId, error: SealError, announce: Announce) -> None:
        self._parts.observer.observe(RecordUnreadable(grant=grant, key_id=error.key_id))
        announce(Postponed(obstacle=Obstacle.UNREADABLE, retry_in_s=UNREADABLE_RETRY_S))

    def _provider_of(self, grant: GrantId, record: GrantRecord) -> str:
        try:
            return self._parts.vault.open_key(grant, record.pair.sealed_key).provider
        except SealError:
            return ""

    def _tell(self, grant: GrantId, verdict: AcquireVerdict | None) -> None:
        if isinstance(verdict, Quarantined):
            wait_s = self._parts.store_clock.wait_s(verdict.until_ms)
            told = RecordQuarantined(grant=grant, wait_s=wait_s, until_ms=verdict.until_ms)
            self._parts.observer.observe(told)
        elif isinstance(verdict, Fresh):
            self._end(grant, ClaimOutcome.WAITED)

    def _end(self, grant: GrantId, outcome: ClaimOutcome) -> None:
        self._parts.observer.observe(ClaimEndedAs(grant=grant, outcome=outcome))


def _is_successor(local: PairReceived, wish: RefreshWish) -> bool:
    """Whether the pair is surely newer than what the wish wants replaced."""
    stands = local.pair.position
    is_same_consent = stands.consent_id == wish.known.consent_id
    return is_same_consent and stands.generation > wish.known.generation
