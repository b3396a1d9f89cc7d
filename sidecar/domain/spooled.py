"""What lies in the spool: the entries of its log, and the state they add up to.

The spool is the local, durable memory of a sidecar: an intent before a claim leaves, the raw
answer and the pair before anybody hears of them, revocation orders until they are carried out.
`SpoolState` is the pure fold of the log; how entries reach a disk is the adapter's business. The
letter behind each entry is its type in the log.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import assert_never

from sidecar.domain.record import ClaimId, Consent, GrantId, Position, StoredPair


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimIntended:
    """A claim may leave this sidecar from now on (``I``)."""

    grant: GrantId
    claim_id: ClaimId
    position: Position


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerReceived:
    """The whole raw answer to a claim or a code exchange, sealed (``R``).

    Attributes:
        position: The position that was claimed; for an exchange, generation -1 of the new consent.
        consent: The consent the pair in the answer will belong to.
        sealed_key: Envelope of (user, provider).
    """

    grant: GrantId
    claim_id: ClaimId
    position: Position
    consent: Consent
    sealed_key: bytes
    sealed_answer: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class PairReceived:
    """A pair that must reach the store (``T``)."""

    grant: GrantId
    claim_id: ClaimId | None
    pair: StoredPair


@dataclass(frozen=True, slots=True, kw_only=True)
class PairConfirmed:
    """The store took the pair of `position`; the copy stays until a newer one is seen (``C``)."""

    grant: GrantId
    position: Position


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimEnded:
    """The claim brought no pair and none can come of it any more (``N``)."""

    grant: GrantId
    claim_id: ClaimId


@dataclass(frozen=True, slots=True, kw_only=True)
class PairForgotten:
    """The store shows something newer: the copies up to `position` are worthless (``P``)."""

    grant: GrantId
    position: Position


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationOrdered:
    """The grant's consent is to be revoked, whatever happens to the store (``V``)."""

    grant: GrantId
    consent: Consent


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationSettled:
    """The order was carried out, or a newer consent made it void (``W``)."""

    grant: GrantId
    consent: Consent


SpoolEntry = (
    ClaimIntended
    | AnswerReceived
    | PairReceived
    | PairConfirmed
    | ClaimEnded
    | PairForgotten
    | RevocationOrdered
    | RevocationSettled
)


@dataclass(slots=True, kw_only=True)
class SpoolState:
    """What the log adds up to.

    Attributes:
        pairs: The newest pair of each grant, confirmed or not.
        parked: Grants whose newest pair the store has not confirmed.
        intents: Claims that may have left and whose end is not known.
        answers: Raw answers whose pair was not yet taken from them.
        orders: Revocations to carry out.
    """

    pairs: dict[GrantId, PairReceived] = field(default_factory=dict[GrantId, PairReceived])
    parked: set[GrantId] = field(default_factory=set[GrantId])
    intents: dict[ClaimId, ClaimIntended] = field(default_factory=dict[ClaimId, ClaimIntended])
    answers: dict[ClaimId, AnswerReceived] = field(default_factory=dict[ClaimId, AnswerReceived])
    orders: dict[GrantId, RevocationOrdered] = field(
        default_factory=dict[GrantId, RevocationOrdered]
    )

    def apply(self, entry: SpoolEntry) -> None:
        """Fold one entry of the log in."""
        match entry:
            case ClaimIntended():
                self.intents[entry.claim_id] = entry
            case AnswerReceived():
                self.answers[entry.claim_id] = entry
            case PairReceived():
                self._receive(entry)
            case PairConfirmed():
                held = self.pairs.get(entry.grant)
                if held is not None and held.pair.position == entry.position:
                    self.parked.discard(entry.grant)
            case ClaimEnded():
                self._end(entry.claim_id)
            case PairForgotten():
                self._forget(entry)
            case RevocationOrdered():
                held_order = self.orders.get(entry.grant)
                if held_order is None or held_order.consent.order <= entry.consent.order:
                    self.orders[entry.grant] = entry
            case RevocationSettled():
                held_order = self.orders.get(entry.grant)
                if held_order is not None and held_order.consent.order <= entry.consent.order:
                    del self.orders[entry.grant]
            case _:
                assert_never(entry)

    def _receive(self, entry: PairReceived) -> None:
        if entry.claim_id is not None:
            self._end(entry.claim_id)
        held = self.pairs.get(entry.grant)
        if held is None or held.pair.order <= entry.pair.order:
            self.pairs[entry.grant] = entry
            self.parked.add(entry.grant)

    def _end(self, claim_id: ClaimId) -> None:
        self.intents.pop(claim_id, None)
        self.answers.pop(claim_id, None)

    def _forget(self, entry: PairForgotten) -> None:
        held = self.pairs.get(entry.grant)
        if held is not None and held.pair.position == entry.position:
            del self.pairs[entry.grant]
            self.parked.discard(entry.grant)
