"""The claims that a dead process of this spool left without an end, and what becomes of each.

They are repeated as soon as nothing stands in the way: the spool's lock proves that nobody waits
for their answers any more. It claims nothing itself and looks into no answer.
"""

from __future__ import annotations

from functools import partial
from typing import final

from sidecar.domain.outcomes import RefreshOutcome
from sidecar.domain.policy import ProbePolicy
from sidecar.domain.record import ClaimId
from sidecar.domain.spooled import ClaimEnded, ClaimIntended
from sidecar.ports import StoreUnavailable
from sidecar.service import faults
from sidecar.service.claim_parts import ClaimParts
from sidecar.service.lane import ClaimLane
from sidecar.service.refresher import Refresher


@final
class Orphans:
    """Those of one start."""

    def __init__(self, *, parts: ClaimParts, lane: ClaimLane, refresher: Refresher) -> None:
        self._parts = parts
        self._lane = lane
        self._refresher = refresher
        self._waiting: dict[ClaimId, ClaimIntended] = dict(parts.journal.state.intents)
        self._repeated_as: dict[ClaimId, ClaimId] = {}
        self._spared: set[ClaimId] = set()

    def __contains__(self, claim_id: object) -> bool:
        return claim_id in self._waiting

    def spare(self, claim_id: ClaimId) -> None:
        """Leave a claim alone whose answer lies here unread (its key is missing).

        Its successor exists.
        """
        self._spared.add(claim_id)

    async def drop_past(self) -> None:
        """Where only a person orders probes, forget the claims that are over for the store.

        One with an answer here stays, whatever the store knows: its successor exists.
        """
        if self._parts.policy.probes is not ProbePolicy.MANUAL:
            return
        answers = self._parts.journal.state.answers
        for claim_id, intent in list(self._waiting.items()):
            record = await self._parts.store.read(intent.grant)
            is_past = record is None or record.claim_id != claim_id
            if is_past and claim_id not in answers:
                del self._waiting[claim_id]
                self._parts.journal.note(ClaimEnded(grant=intent.grant, claim_id=claim_id))

    def launch(self) -> int:
        """Set about them; return how many there are.

        In a lane that is shut they stay what they are, for the next start; and where only a person
        may order a probe, until one does.
        """
        if self._lane.is_shut or self._parts.policy.probes is ProbePolicy.MANUAL:
            return 0
        intents = self._parts.journal.state.intents
        orphans = [
            intent
            for claim_id, intent in self._waiting.items()
            if claim_id in intents and claim_id not in self._spared
        ]
        self._waiting.clear()
        for intent in orphans:
            self._lane.launch_claim(partial(self._adopt, intent), where="orphan")
        return len(orphans)

    async def _adopt(self, intent: ClaimIntended) -> None:
        """Repeat the claim of a dead process, later if something stands in the way now.

        Under one name however often it is tried: the store may have said yes, unheard.
        """
        new_id = self._parts.entropy.new_id
        claim_id = self._repeated_as.setdefault(intent.claim_id, ClaimId(new_id()))
        try:
            is_done = await self._refresher.adopt(intent, claim_id, _nobody_waits)
        except StoreUnavailable:
            is_done = False
        except Exception as error:  # noqa: BLE001 - reported; its claim still has to end
            faults.report(self._parts.observer, where="orphan", error=error)
            is_done = False
        if not is_done:
            self._waiting[intent.claim_id] = intent


def _nobody_waits(outcome: RefreshOutcome) -> None:
    """The caller of an orphaned claim died with its process."""
    del outcome
