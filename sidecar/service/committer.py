"""Brings pairs from the spool to the store, for ever if it must.

The commit looks at no lease: whoever holds the newest pair may always store it. What the store says
decides what happens to the local copy; a copy is let go only when the store shows something newer.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final, assert_never, final

from sidecar.domain import policy
from sidecar.domain.commands import (
    Commit,
    Committed,
    CommitVerdict,
    Duplicate,
    Forked,
    RevokeSuccessor,
    Stale,
    Superseded,
)
from sidecar.domain.events import CommitAnswer, PairCommitted
from sidecar.domain.record import GrantId, GrantRecord, GrantState
from sidecar.domain.spooled import (
    PairConfirmed,
    PairForgotten,
    PairReceived,
    RevocationOrdered,
)
from sidecar.domain.transitions_commit import verdict_on_copy
from sidecar.ports import Entropy, Observer, StoreUnavailable, TokenStore
from sidecar.service import faults
from sidecar.service.journal import Journal
from sidecar.service.planner import Planner

OWN_FAULTS: Final = 3
"""So many faults of ours end an attempt to store a pair; one may be a matter of the moment."""


@final
class Committer:
    """Offers spooled pairs to the store and draws the conclusions."""

    def __init__(
        self,
        *,
        store: TokenStore,
        journal: Journal,
        planner: Planner,
        entropy: Entropy,
        observer: Observer,
    ) -> None:
        self._store = store
        self._journal = journal
        self._planner = planner
        self._entropy = entropy
        self._observer = observer
        self._times = planner.rules.times
        self._in_hand: Counter[GrantId] = Counter()
        self._committing: Counter[GrantId] = Counter()

    def is_in_hand(self, grant: GrantId) -> bool:
        """Whether somebody will commit whatever pair of the grant comes, or does so now."""
        return grant in self._in_hand

    def is_committing(self, grant: GrantId) -> bool:
        """Whether somebody offers this grant's pair until the store answers."""
        return grant in self._committing

    @contextmanager
    def in_hand(self, grant: GrantId) -> Generator[None]:
        """Leave whatever pair of the grant comes meanwhile to the caller, who commits it.

        Offered by housekeeping first, it would count as a copy from a spool, which proves nothing.
        """
        with _counted(self._in_hand, grant):
            yield

    async def commit(self, received: PairReceived, *, is_live: bool) -> CommitVerdict:
        """Offer the pair until the store has answered, however long that takes.

        Raises:
            Exception: A fault of ours came again and again; the pair stays where it is.
        """
        with self.in_hand(received.grant), _counted(self._committing, received.grant):
            return await self._commit(received, is_live=is_live)

    async def _commit(self, received: PairReceived, *, is_live: bool) -> CommitVerdict:
        failures = own_faults = 0
        is_first = received.claim_id is None
        while True:
            # A first pair that was offered may have been seen, claimed and forgotten since: from
            # then on it proves no more than a copy does. A claim's pair is proven by its mark.
            is_proof = is_live and not (is_first and failures)
            try:
                return await self.offer(received, is_live=is_proof)
            except StoreUnavailable:
                pause_s = policy.backoff(
                    failures=failures,
                    fraction=self._entropy.fraction(),
                    first_s=self._times.commit_retry_first_s,
                    limit_s=self._times.commit_retry_limit_s,
                )
            except (Exception, asyncio.CancelledError) as error:
                own_faults += 1
                if faults.is_ending() or own_faults >= OWN_FAULTS:
                    raise
                faults.report(self._observer, where="commit", error=error)
                pause_s = self._times.fault_pause_s(failures)
            failures += 1
            await asyncio.sleep(pause_s)

    async def offer(self, received: PairReceived, *, is_live: bool) -> CommitVerdict:
        """Offer the pair once.

        Raises:
            StoreUnavailable: The pair stays parked; it may have been stored nevertheless.
        """
        verdict = await self._store.apply(
            received.grant,
            Commit(
                pair=received.pair,
                claim_id=received.claim_id if is_live else None,
                is_live=is_live,
            ),
        )
        self._conclude(received, verdict)
        if _is_news(verdict, is_live=is_live):
            self._planner.committed(received.grant, received.pair)
        self._tell(received, verdict, is_live=is_live)
        return verdict

    def is_known(self, received: PairReceived, record: GrantRecord | None) -> bool:
        """Whether the store, as it was just read, needs no offer of this copy; then it is done."""
        verdict = verdict_on_copy(record, received.pair)
        if verdict is None:
            return False
        self._conclude(received, verdict)
        self._tell(received, verdict, is_live=False)
        return True

    def _conclude(self, received: PairReceived, verdict: CommitVerdict) -> None:
        forgotten = PairForgotten(grant=received.grant, position=received.pair.position)
        match verdict:
            case Committed() | Duplicate():
                self._confirm(received)
            case Stale() | Superseded():
                self._journal.note(forgotten)
            case Forked():
                if verdict.is_ours_kept:
                    self._confirm(received)
                else:
                    self._journal.note(forgotten)
            case RevokeSuccessor():
                self._journal.keep(
                    RevocationOrdered(grant=received.grant, consent=received.pair.consent)
                )
                self._confirm(received)
            case _:
                assert_never(verdict)

    def _confirm(self, received: PairReceived) -> None:
        """Note that the store has the pair; a replay finds most of them noted already."""
        if received.grant in self._journal.state.parked_at_s:
            self._journal.note(PairConfirmed(grant=received.grant, position=received.pair.position))

    def _tell(self, received: PairReceived, verdict: CommitVerdict, *, is_live: bool) -> None:
        was: GrantState | None = None
        is_gap = False
        match verdict:
            case Committed():
                answer, was, is_gap = CommitAnswer.COMMITTED, verdict.was, verdict.is_gap
            case Duplicate():
                answer = CommitAnswer.DUPLICATE
            case Stale():
                answer = CommitAnswer.STALE
            case Superseded():
                answer = CommitAnswer.SUPERSEDED
            case Forked():
                answer = CommitAnswer.FORKED
            case RevokeSuccessor():
                answer = CommitAnswer.REVOKE
            case _:
                assert_never(verdict)
        committed = PairCommitted(
            grant=received.grant, answer=answer, was=was, is_replay=not is_live, is_gap=is_gap
        )
        faults.tell(self._observer, committed, where="commit")


@contextmanager
def _counted(counter: Counter[GrantId], grant: GrantId) -> Generator[None]:
    counter[grant] += 1
    try:
        yield
    finally:
        counter[grant] -= 1
        if not counter[grant]:
            del counter[grant]


def _is_news(verdict: CommitVerdict, *, is_live: bool) -> bool:
    """Whether the store has the pair since this offer (or the one whose reply was lost)."""
    match verdict:
        case Committed():
            return True
        case Duplicate():
            return is_live
        case Forked():
            return verdict.is_ours_kept
        case _:
            return False
