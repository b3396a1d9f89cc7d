"""First pairs on their way to the store: from the disk, where they are kept, to whoever waits.

It must not know how a pair was obtained.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from sidecar.domain.commands import Committed, CommitVerdict, Duplicate
from sidecar.domain.events import TokenObtained
from sidecar.domain.outcomes import ConsentSuperseded, Stored
from sidecar.domain.record import GrantKey, GrantRecord
from sidecar.domain.spooled import PairReceived
from sidecar.domain.tokens import TokenPair
from sidecar.ports import SealError
from sidecar.service import faults
from sidecar.service.claim_parts import ClaimParts


@dataclass(frozen=True, slots=True, kw_only=True)
class Brought:
    """A first pair, sealed and in the clear; `is_durable`: it is on the disk."""

    received: PairReceived
    tokens: TokenPair
    is_durable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A first pair, whose it is, and the record that it replaces."""

    key: GrantKey
    former: GrantRecord | None
    brought: Brought
    is_import: bool


@final
class Arrivals:
    """Stores first pairs."""

    def __init__(self, *, parts: ClaimParts) -> None:
        self._parts = parts

    async def store(self, arrival: Arrival) -> Stored | ConsentSuperseded:
        """Store the pair and tell who obtained it."""
        return self._conclude(arrival, await self._commit(arrival.brought))

    async def _commit(self, brought: Brought) -> CommitVerdict | None:
        """Store a pair; ``None``: it is on the disk, and a fault of ours leaves it to housekeeping.

        Whoever waits must not hear of a failure where the only copy of the consent is kept.
        """
        try:
            return await self._parts.committer.commit(brought.received, is_live=True)
        except Exception as error:
            if not brought.is_durable:
                raise
            faults.report(self._parts.observer, where="exchange", error=error)
            return None

    def _conclude(
        self, arrival: Arrival, verdict: CommitVerdict | None
    ) -> Stored | ConsentSuperseded:
        if not isinstance(verdict, Committed | Duplicate | None):
            return ConsentSuperseded()
        received, tokens = arrival.brought.received, arrival.brought.tokens
        obtained = TokenObtained(
            grant=received.grant,
            provider=arrival.key.provider,
            is_import=arrival.is_import,
            is_other_subject=self._is_other_subject(arrival),
        )
        faults.tell(self._parts.observer, obtained, where="exchange")
        return Stored(pair=received.pair, tokens=tokens, is_new=arrival.former is None)

    def _is_other_subject(self, arrival: Arrival) -> bool:
        """Whether the end user logged in at the bank as somebody else than before."""
        former, subject = arrival.former, arrival.brought.tokens.subject
        if former is None or not former.pair.sealed_pair:
            return False
        try:
            before = self._parts.vault.open_pair(arrival.brought.received.grant, former.pair)
        except SealError:
            return False
        except Exception as error:  # noqa: BLE001 - reported; the pair is stored all the same
            faults.report(self._parts.observer, where="exchange", error=error)
            return False
        return bool(before.subject and subject and before.subject != subject)
