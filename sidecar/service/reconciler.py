"""Makes the spool and the store agree: at the start, after every trouble, and a few times a second.

It replays the spool before the first claim and after each new incarnation of the store, repeats
what a dead process of this spool left unanswered, stores what is parked, carries revocation orders
out, answers peers in distress and settles doubts whose time is over.

It runs in the claim lane. It claims nothing by itself but the orphans of its own spool.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import final

from sidecar.domain.bounds import bounded_until_ms
from sidecar.domain.commands import BeginRevocation
from sidecar.domain.events import RecordUnreadable, SpoolReplayed
from sidecar.domain.failure import Operation
from sidecar.domain.notices import Distress, Notice
from sidecar.domain.record import GrantId, GrantState
from sidecar.domain.spooled import (
    AnswerReceived,
    ClaimEnded,
    PairForgotten,
    PairReceived,
    RevocationOrdered,
)
from sidecar.domain.token_wire import PairRead, read_reply
from sidecar.domain.wire import Answered
from sidecar.ports import SealError, StoreUnavailable
from sidecar.service import faults
from sidecar.service.claim_parts import ClaimParts
from sidecar.service.lane import ClaimLane
from sidecar.service.offers import Offers
from sidecar.service.orphans import Orphans
from sidecar.service.refresher import Refresher
from sidecar.service.revoker import Revoker
from sidecar.service.store_watch import StoreWatch
from sidecar.service.vault import PairPlace


@dataclass(frozen=True, slots=True, kw_only=True)
class Crew:
    """The lane and those of its workers that housekeeping sets to work."""

    lane: ClaimLane
    refresher: Refresher
    revoker: Revoker


@final
class Reconciler:
    """Housekeeping of one sidecar."""

    def __init__(
        self,
        *,
        parts: ClaimParts,
        watch: StoreWatch,
        crew: Crew,
        adopted_directories: int,
    ) -> None:
        self._parts = parts
        self._watch = watch
        self._offers = Offers(parts=parts)
        self._lane = crew.lane
        self._revoker = crew.revoker
        self._orphans = Orphans(parts=parts, lane=crew.lane, refresher=crew.refresher)
        self._adopted_directories = adopted_directories
        self._needs_replay = True
        self._unoffered: list[GrantId] | None = None
        self._replayed = 0
        self._has_replayed = False
        self._next_probe_s = 0.0
        self._doubts: dict[GrantId, int] = {}

    @property
    def has_replayed(self) -> bool:
        """Whether the spool was offered to the store since the start: claims wait for that."""
        return self._has_replayed

    async def run(self) -> None:
        """Keep house until cancelled."""
        while True:
            try:
                await self.tick()
            except Exception as error:  # noqa: BLE001 - reported; housekeeping must go on
                faults.report(self._parts.observer, where="reconciler", error=error)
            await asyncio.sleep(self._parts.times.housekeeping_every_s)

    async def tick(self) -> None:
        """Do what is due now."""
        if self._parts.clock.elapsed_s() >= self._next_probe_s:
            if await self._watch.probe():
                self._needs_replay, self._unoffered = True, None
            self._next_probe_s = (
                self._parts.clock.elapsed_s() + self._parts.times.store_probe_every_s
            )
            self._parts.journal.measure()
            await self._see_restraints()
        if not self._watch.is_up:
            return
        try:
            if self._needs_replay:
                await self._replay()
            self._orphans.launch()
            await self._store_parked()
            await self._settle_doubts()
        except StoreUnavailable:
            self._next_probe_s = 0.0
            return
        self._launch_orders()

    async def _see_restraints(self) -> None:
        """Learn what holds the fleet back; what was learned last holds while the store is away."""
        if self._watch.is_up:
            with suppress(StoreUnavailable):
                await self._parts.restraints.brake.look()

    async def listen(self) -> None:
        """Act on hints of peers until cancelled."""
        async for hint in self._parts.store.listen():
            try:
                await self._heed(hint)
            except StoreUnavailable:
                continue

    async def _replay(self) -> None:
        """Offer every pair of the spool to the store; then claims may start."""
        if not self._has_replayed:
            for answer in list(self._parts.journal.state.answers.values()):
                self._read_again_if_it_can_be(answer)
        # An order before its pair: a store that lost both must not serve the grant in between.
        for order in list(self._parts.journal.state.orders.values()):
            await self._parts.store.apply(order.grant, BeginRevocation(consent=order.consent))
        await self._revoker.recall()
        if self._unoffered is None:
            # The newest first: what a store forgot it was told last, and claims wait for it.
            self._unoffered = list(reversed(self._parts.journal.state.pairs))
            self._replayed = len(self._unoffered)
        self._unoffered = await self._offers.offer_each(self._unoffered)
        if self._unoffered:
            raise StoreUnavailable
        await self._orphans.drop_past()
        orphans = self._orphans.launch()
        self._needs_replay = False
        self._parts.observer.observe(
            SpoolReplayed(
                pairs=self._replayed,
                orphans=orphans,
                adopted_directories=self._adopted_directories,
            )
        )
        self._adopted_directories = 0
        if not self._has_replayed:
            self._has_replayed = True
            self._lane.open()

    def _read_again_if_it_can_be(self, answer: AnswerReceived) -> None:
        try:
            self._read_again(answer)
        except Exception as error:  # noqa: BLE001 - reported; the others are read, and claims start
            self._orphans.spare(answer.claim_id)
            faults.report(self._parts.observer, where="answer", error=error)

    def _read_again(self, answer: AnswerReceived) -> None:
        """Take the pair from an answer that a former process could not read or write any more.

        Its life counts from when it was asked for; where an earlier version did not note that, its
        id_token is not trusted.
        """
        try:
            body = self._parts.vault.open_answer(
                answer.sealed_answer,
                grant=answer.grant,
                claim_id=answer.claim_id,
                position=answer.position,
            )
        except SealError as error:
            self._orphans.spare(answer.claim_id)
            self._parts.observer.observe(RecordUnreadable(grant=answer.grant, key_id=error.key_id))
            return
        reading = read_reply(
            Operation.REFRESH,
            Answered(status=200, body=body),
            max_age_s=self._parts.policy.max_age_s,
        )
        if not isinstance(reading, PairRead):
            if answer.claim_id not in self._orphans:
                self._parts.journal.note(ClaimEnded(grant=answer.grant, claim_id=answer.claim_id))
            return
        pair = self._parts.vault.seal_pair(
            reading.pair,
            place=PairPlace(
                grant=answer.grant,
                sealed_key=answer.sealed_key,
                consent=answer.consent,
                generation=answer.position.generation + 1,
            ),
            # Not from the future, should the store's clock have stepped back since.
            asked_at_ms=min(answer.sent_at_ms, self._parts.store_clock.now_ms()) or None,
        )
        self._parts.journal.keep(
            PairReceived(grant=answer.grant, claim_id=answer.claim_id, pair=pair)
        )

    async def _store_parked(self) -> None:
        # Whoever brought a pair commits it; one that hangs before that must not keep it here.
        late_s = self._parts.clock.now_s() - self._parts.times.lease_s
        committer = self._parts.committer
        idle = [
            grant
            for grant, parked_at_s in self._parts.journal.state.parked_at_s.items()
            if not committer.is_in_hand(grant)
            or (parked_at_s < late_s and not committer.is_committing(grant))
        ]
        if await self._offers.offer_each(idle):
            raise StoreUnavailable

    async def _settle_doubts(self) -> None:
        if self._parts.restraints.brake.is_on:
            return
        now_ms = self._parts.store_clock.now_ms()
        for grant in [grant for grant, due_ms in self._doubts.items() if due_ms <= now_ms]:
            record = await self._parts.store.read(grant)
            if record is None or record.state is not GrantState.IN_DOUBT:
                del self._doubts[grant]
            elif record.hold_until_ms > now_ms:
                self._doubts[grant] = bounded_until_ms(record.hold_until_ms, now_ms=now_ms)
            else:
                await self._parts.settler.settle(grant, record.position)

    def _launch_orders(self) -> None:
        for order in list(self._parts.journal.state.orders.values()):
            if self._revoker.is_due(order.grant):
                self._lane.launch(partial(self._carry_out, order), where="revocation")

    async def _carry_out(self, order: RevocationOrdered) -> None:
        await self._revoker.carry_out(order)

    async def _heed(self, hint: Notice | Distress) -> None:
        held = self._parts.journal.state.pairs.get(hint.grant)
        if isinstance(hint, Distress):
            if held is not None:
                await self._parts.committer.offer(held, is_live=False)
            return
        if hint.state is GrantState.IN_DOUBT:
            self._doubts.setdefault(hint.grant, 0)
        if held is None:
            return
        generation = held.pair.generation
        if hint.consent_id != held.pair.consent.id or hint.generation < generation:
            await self._parts.committer.offer(held, is_live=False)
        elif hint.generation > generation or (
            hint.generation == generation and hint.state is GrantState.REVOKED
        ):
            self._parts.journal.note(PairForgotten(grant=hint.grant, position=held.pair.position))
