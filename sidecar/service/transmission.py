"""One claim's presentations of its refresh token, and the answer's way to the disk.

Before the first byte leaves, the store knows that the token may be spent from now on; in the very
step in which the last byte of an answer was read, the pair is on disk. Between the two nothing is
awaited and no timer runs: a slow answer is worth waiting for, since nobody else can ever have it.

It does not decide whether to present the token again; `service.claim` does.
"""

from __future__ import annotations

import asyncio
from typing import Final, final

from sidecar.domain.commands import Done, KeepHold, MarkSending
from sidecar.domain.events import (
    ClaimKind,
    ClaimSlowed,
    Event,
    Outcome,
    TokenRefreshed,
    TokenRequestEnded,
    TokenSent,
)
from sidecar.domain.failure import Operation
from sidecar.domain.outcomes import Refreshed
from sidecar.domain.spooled import AnswerReceived, ClaimIntended, PairReceived
from sidecar.domain.token_wire import PairKept, PairRead, read_reply
from sidecar.domain.tokens import TokenFailure, TokenPair
from sidecar.domain.wire import Answered, Broken, NotSent, TokenReply, TokenRequest
from sidecar.ports import StoreUnavailable
from sidecar.service import faults
from sidecar.service.claim_parts import Announce, ClaimParts, Ticket
from sidecar.service.presentations import (
    Delivered,
    Presentation,
    Unread,
    Vetoed,
    may_hold_a_pair,
)
from sidecar.service.vault import PairPlace

TICK_S: Final = 1.0


@final
class Transmission:
    """Presents the token of one claim, once or again.

    Attributes:
        result: What came of the last presentation, as soon as that is known.
        sends: How many requests may have left.
    """

    def __init__(self, *, parts: ClaimParts, ticket: Ticket, announce: Announce) -> None:
        self._parts = parts
        self._ticket = ticket
        self._announce = announce
        self._is_marked = False
        self._slow = False
        self._started_s = parts.clock.elapsed_s()
        # When the first byte could leave: a paused process reads its answer much later.
        self._sent_s = self._started_s
        self._reply: TokenReply = NotSent()
        self._is_admitted = False
        self.result: Delivered | Unread | TokenFailure | None = None
        self.sends = 0

    @property
    def is_unanswered(self) -> bool:
        """Whether the last presentation may have left, and nothing was read of an answer."""
        return self._is_admitted and self.result is None

    async def present(self) -> Presentation:
        """Send the claim once and return what came of it, whatever fails meanwhile."""
        self.result = None
        self._is_admitted = False
        started_s = self._parts.clock.elapsed_s()
        request = self._parts.requests.refresh(self._ticket.tokens.refresh_token)
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(self._send(request))
            watching = group.create_task(self._watch(sending))
            await asyncio.wait([sending])
            watching.cancel()
        if self.result is None:
            if not self._is_admitted:
                return Vetoed()
            self.result = self._read(Broken())
        self._tell(
            TokenRequestEnded(
                operation=Operation.REFRESH,
                outcome=Outcome.OK if isinstance(self.result, Delivered) else Outcome.FAILED,
                duration_s=self._parts.clock.elapsed_s() - started_s,
            )
        )
        return self.result

    def read_again(self) -> Presentation:
        """Read the answer once more that a fault of ours kept from being read."""
        self._on_answer(self._reply)
        return self.result or Unread()

    async def _send(self, request: TokenRequest) -> None:
        """Send the request; a fault on the way undoes neither what was read nor what has left."""
        try:
            await self._parts.idp.send(
                request, before_send=self._before_send, on_answer=self._on_answer
            )
        except Exception as error:  # noqa: BLE001 - reported; the claim goes on by what is known
            self._report("claim", error)

    async def _before_send(self) -> bool:
        """Mark (or, on a repetition, keep) the claim; return whether its first byte may leave."""
        asked_s = self._parts.clock.elapsed_s()
        if not (await self._keep() if self._is_marked else await self._mark(asked_s)):
            return False
        self._is_marked = True
        if self._parts.clock.elapsed_s() - asked_s > self._parts.times.send_window_s:
            return False
        kind = self._ticket.kind if self.sends == 0 else ClaimKind.RETRY
        self._tell(TokenSent(kind=kind))
        self.sends += 1
        self._sent_s = self._parts.clock.elapsed_s()
        self._is_admitted = True
        return True

    async def _mark(self, asked_s: float) -> bool:
        intent = ClaimIntended(
            grant=self._ticket.grant,
            claim_id=self._ticket.claim_id,
            replica_id=self._parts.identity.replica_id,
            position=self._ticket.record.position,
        )
        if not self._parts.journal.note(intent):
            return False
        mark = MarkSending(
            claim_id=self._ticket.claim_id,
            position=self._ticket.record.position,
            hold_ms=int(self._parts.times.hold_s * 1000),
        )
        while True:
            try:
                return isinstance(await self._parts.store.apply(self._ticket.grant, mark), Done)
            except StoreUnavailable:
                if self._parts.clock.elapsed_s() - asked_s > self._parts.times.send_window_s / 2:
                    return False
                await asyncio.sleep(self._parts.times.commit_retry_first_s)

    async def _keep(self) -> bool:
        keep = KeepHold(
            claim_id=self._ticket.claim_id, hold_ms=int(self._parts.times.hold_s * 1000)
        )
        try:
            return isinstance(await self._parts.store.apply(self._ticket.grant, keep), Done)
        except StoreUnavailable:
            return False

    async def _watch(self, sending: asyncio.Task[None]) -> None:
        """Keep the hold while the answer is awaited; give up after so many ticks of the loop.

        Ticks and not clock time: a process that was stopped finds its answer in the socket first.
        It ends with the sending, cancelled or not: a library may lose a cancellation, and the pair
        would not be committed meanwhile. No fault in it ends the wait for the answer.
        """
        times = self._parts.times
        kept_s = self._parts.clock.elapsed_s()
        for _ in range(times.watchdog_ticks):
            await asyncio.sleep(min(TICK_S, times.keep_every_s))
            now_s = self._parts.clock.elapsed_s()
            if self._is_marked and now_s - kept_s >= times.keep_every_s:
                kept_s = now_s
                await self._keep_or_go_on()
            if sending.done():
                return
            if not self._slow and now_s - self._started_s >= times.slow_claim_s:
                self._slow = True
                self._tell(
                    ClaimSlowed(
                        grant=self._ticket.grant,
                        provider=self._ticket.provider,
                        waited_s=now_s - self._started_s,
                    )
                )
        sending.cancel()

    async def _keep_or_go_on(self) -> None:
        try:
            await self._keep()
        except asyncio.CancelledError as error:
            if faults.is_ending():
                raise
            self._report("claim", error)
        except Exception as error:  # noqa: BLE001 - reported; the answer is still to come
            self._report("claim", error)

    def _on_answer(self, reply: TokenReply) -> None:
        """Take the answer to the disk and wake the waiters; nothing is awaited in here.

        It never raises: whoever reads the connection has nothing to do with our faults.
        """
        if isinstance(reply, NotSent) and reply.is_vetoed:
            return
        self._reply = reply
        try:
            self.result = self._read(reply)
        except Exception as error:  # noqa: BLE001 - the answer may hold the only live token
            self._report("answer", error)
            if isinstance(self.result, Delivered):
                return
            self.result = None
            if may_hold_a_pair(reply):
                self.result = Unread()
                self._take_down(reply, durable=True)

    def _read(self, reply: TokenReply) -> Delivered | TokenFailure:
        answered_s = self._parts.clock.elapsed_s()
        if may_hold_a_pair(reply):
            self._take_down(reply, durable=False)
        reading = read_reply(
            Operation.REFRESH,
            reply,
            max_age_s=self._parts.policy.max_age_s,
            took_s=answered_s - self._sent_s,
        )
        if isinstance(reading, PairRead):
            return self._deliver(reading.pair, answered_s, is_salvaged=reading.is_salvaged)
        if isinstance(reading, PairKept):
            tokens = reading.paired_with(self._ticket.tokens.refresh_token)
            return self._deliver(tokens, answered_s, is_salvaged=False)
        assert isinstance(reading, TokenFailure)  # noqa: S101 - a refresh is no revocation
        return reading

    def _take_down(self, reply: Answered | Broken, *, durable: bool) -> None:
        """Write the raw answer down, so that a later start can read what this one could not."""
        journal = self._parts.journal
        try:
            write = journal.keep if durable else journal.note
            write(self._sealed_answer(reply.body))
        except Exception as error:  # noqa: BLE001 - reported; the pair in it is what matters
            self._report("answer", error)

    def _deliver(self, tokens: TokenPair, answered_s: float, *, is_salvaged: bool) -> Delivered:
        record = self._ticket.record
        pair = self._parts.vault.seal_pair(
            tokens,
            place=PairPlace(
                grant=self._ticket.grant,
                sealed_key=record.pair.sealed_key,
                consent=record.pair.consent,
                generation=record.pair.generation + 1,
            ),
            asked_at_ms=self._parts.store_clock.at_ms(self._sent_s),
        )
        received = PairReceived(grant=self._ticket.grant, claim_id=self._ticket.claim_id, pair=pair)
        is_durable = self._parts.journal.keep(received)
        refreshed = Refreshed(pair=pair, tokens=tokens)
        # From here on the pair is kept, whatever fails in telling of it.
        delivered = Delivered(received=received, refreshed=refreshed, is_durable=is_durable)
        self.result = delivered
        if is_durable:
            self._announce(refreshed)
        now_s = self._parts.clock.elapsed_s()
        self._tell(
            TokenRefreshed(
                grant=self._ticket.grant,
                provider=self._ticket.provider,
                generation=pair.generation,
                duration_s=now_s - self._started_s,
                answer_to_spool_s=now_s - answered_s,
                is_salvaged=is_salvaged,
                was_slow=self._slow,
            )
        )
        return delivered

    def _tell(self, event: Event) -> None:
        faults.tell(self._parts.observer, event, where="claim")

    def _report(self, where: str, error: BaseException) -> None:
        faults.report(self._parts.observer, where=where, error=error)

    def _sealed_answer(self, body: bytes) -> AnswerReceived:
        record = self._ticket.record
        return AnswerReceived(
            grant=self._ticket.grant,
            claim_id=self._ticket.claim_id,
            position=record.position,
            consent=record.pair.consent,
            sealed_key=record.pair.sealed_key,
            sealed_answer=self._parts.vault.seal_answer(
                body,
                grant=self._ticket.grant,
                claim_id=self._ticket.claim_id,
                position=record.position,
            ),
            sent_at_ms=self._parts.store_clock.at_ms(self._sent_s),
        )
