"""One claim: from a lease to a stored pair, or to a reason why there is none.

Present the token; repeat only what nobody else can ever have the answer of; believe a denial only
after the own spool, the store and the fleet were asked. A claim is never cancelled by a client, and
it always ends with the lease given back, the grant doubted, or the pair on its way to the store:
also after a fault of ours, wherever it comes, and where the process is told to end.

What an answer means is decided in `domain.token_wire`; how one presentation goes, in
`transmission`; how a conclusion is carried out, in `claim_ending`.
"""

from __future__ import annotations

import asyncio
from typing import Final, final

from sidecar.domain.failure import FailureReason
from sidecar.domain.outcomes import Obstacle, Postponed
from sidecar.domain.token_wire import ClaimFate, fate_of
from sidecar.domain.tokens import TokenFailure
from sidecar.service import faults
from sidecar.service.claim_ending import ClaimEnding
from sidecar.service.claim_parts import Announce, ClaimParts, Ticket
from sidecar.service.presentations import Delivered, Presentation, Unread, Vetoed
from sidecar.service.transmission import Transmission

LAST_STEP_S: Final = 1.0
"""How long a claim that is told to end may take to tell the store; else its next start does."""


@final
class Claim:
    """Spends one refresh token, once if the world lets it."""

    def __init__(self, *, parts: ClaimParts, ticket: Ticket, announce: Announce) -> None:
        self._parts = parts
        self._ticket = ticket
        self._announce = announce
        self._transmission = Transmission(parts=parts, ticket=ticket, announce=announce)
        self._ending = ClaimEnding(
            parts=parts, ticket=ticket, announce=announce, transmission=self._transmission
        )

    async def run(self) -> None:
        """Carry the claim to its end; announces the outcome as soon as there is one.

        No fault leaves a marked claim to its hold: what is known of it by then decides its end.
        """
        try:
            await self._spend()
        except asyncio.CancelledError as error:
            if faults.is_ending():
                await self._end_in_haste()
                raise
            self._report(error)  # some library's
        except Exception as error:  # noqa: BLE001 - reported; the claim still has to end
            self._report(error)
        await self._end_by_what_is_known()

    async def _spend(self) -> None:
        repeats = self._parts.restraints.repeats
        repeats.note_claim()
        failure: TokenFailure | None = None
        for pause_s in (0.0, *self._parts.times.owner_retry_pauses_s):
            wait_s = max(pause_s, (failure.retry_after_s or 0.0) if failure else 0.0)
            if wait_s > self._parts.policy.wait_s:
                break
            if failure is not None:
                if not repeats.take(self._ticket.grant, self._ticket.provider):
                    break
                self._ending.tell(failure, retry_in_s=wait_s)
            await asyncio.sleep(wait_s)
            presentation = await self._transmission.present()
            if isinstance(presentation, Unread):
                presentation = await self._read_again()
            match presentation:
                case Delivered():
                    await self._ending.deliver(presentation)
                    return
                case Vetoed():
                    await self._ending.vetoed(failure)
                    return
                case Unread():
                    await self._ending.doubt_unread()
                    return
                case TokenFailure():
                    failure = presentation
                    if await self._ends_with(failure):
                        return
        if failure is not None:
            await self._ending.give_back(failure)

    async def _read_again(self) -> Presentation:
        """Read an answer that a fault of ours kept from being read, a few times."""
        presentation: Presentation = Unread()
        for pause_s in self._parts.times.owner_retry_pauses_s:
            await asyncio.sleep(pause_s)
            presentation = self._transmission.read_again()
            if not isinstance(presentation, Unread):
                break
        return presentation

    async def _end_by_what_is_known(self) -> None:
        """End the claim after a fault, and again while that fails too, until its hold is over."""
        until_s = self._parts.clock.elapsed_s() + self._parts.times.hold_s
        failures = 0
        while not self._ending.is_over and self._parts.clock.elapsed_s() <= until_s:
            try:
                await self._ending.by_what_is_known()
            except asyncio.CancelledError as error:
                if faults.is_ending():
                    await self._end_in_haste()
                    raise
                self._report(error)
            except Exception as error:  # noqa: BLE001 - reported, and tried again
                self._report(error)
            if not self._ending.is_over:
                await asyncio.sleep(self._parts.times.fault_pause_s(failures))
            failures += 1
        result = self._transmission.result
        if isinstance(result, Delivered):
            self._announce(result.refreshed)
        self._announce(Postponed(obstacle=Obstacle.FAILED, retry_in_s=1.0))

    async def _end_in_haste(self) -> None:
        """End the claim of a process that is told to end, if the store takes that at once.

        Otherwise its intent, and what came of an answer, lie in the spool for the next start.
        """
        try:
            async with asyncio.timeout(LAST_STEP_S):
                if not self._ending.is_over:
                    await self._ending.by_what_is_known()
        except Exception as error:  # noqa: BLE001 - a timeout, or reported; the next start goes on
            if not isinstance(error, TimeoutError):
                self._report(error)

    async def _ends_with(self, failure: TokenFailure) -> bool:
        """Draw the conclusion from a failure; return whether the claim is over."""
        self._ending.may_be_spent |= fate_of(failure) is ClaimFate.AMBIGUOUS
        self._parts.restraints.banks.learn(self._ticket.provider, failure)
        await self._parts.restraints.gate.learn(failure)
        match fate_of(failure):
            case ClaimFate.DENIED:
                await self._ending.denied(failure)
                return True
            case ClaimFate.AMBIGUOUS:
                return False
            case ClaimFate.UNSPENT:
                if self._ending.may_be_spent and failure.reason is FailureReason.UNREACHABLE:
                    return False
                await self._ending.give_back(failure)
                return True

    def _report(self, error: BaseException) -> None:
        faults.report(self._parts.observer, where="claim", error=error)
