"""What lies in the spool: the entries of its log, and the state they add up to.

The spool is the local, durable memory of a sidecar: an intent before a claim leaves, the raw
answer and the pair before anybody hears of them, revocation orders until they are carried out and
for a while longer.
`SpoolState` is the pure fold of the log; how entries reach a disk is the adapter's business. The
letter behind each entry is its type in the log.

Folding an entry a second time adds nothing to what it added the first time, and may at worst bring
back what had ended since; so a log may be copied before its original is removed, and every
consequence of an entry must be safe to draw twice. It must not know clocks, files or envelopes.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Final, assert_never

from sidecar.domain.record import ClaimId, Consent, GrantId, Position, ReplicaId, StoredPair


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimIntended:
    """A claim may leave this sidecar from now on (``I``).

    Attributes:
        replica_id: The spool that the store names as the claim's owner. It stays what it was when
            another sidecar adopts the log, since only its bearer may take the claim over.
    """

    grant: GrantId
    claim_id: ClaimId
    replica_id: ReplicaId
    position: Position


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerReceived:
    """The whole raw answer to a claim or a code exchange, sealed (``R``).

    Attributes:
        position: The position that was claimed; for an exchange, generation -1 of the new consent.
        consent: The consent the pair in the answer will belong to.
        sealed_key: Envelope of (user, provider).
        sent_at_ms: When the request was sent (store clock); 0: an earlier version did not note it.
    """

    grant: GrantId
    claim_id: ClaimId
    position: Position
    consent: Consent
    sealed_key: bytes
    sealed_answer: bytes
    sent_at_ms: int = 0


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


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentEnded:
    """The consent's revocation was carried out: a store that forgets it is told again (``E``)."""

    grant: GrantId
    consent: Consent


ENDED_KEPT_S: Final = 43_200.0
"""How long a carried out revocation is remembered: less than the age at which a tombstone may be
erased, so that no memory of it outlives an erasure."""

SpoolEntry = (
    ClaimIntended
    | AnswerReceived
    | PairReceived
    | PairConfirmed
    | ClaimEnded
    | PairForgotten
    | RevocationOrdered
    | RevocationSettled
    | ConsentEnded
)


@dataclass(slots=True, kw_only=True)
class SpoolState:
    """What the log adds up to.

    Attributes:
        pairs: The newest pair of each grant, confirmed or not; a predecessor is worthless. In the
            order in which they came.
        parked_at_s: When the newest pair of a grant was written, where the store has not yet
            confirmed it (wall clock).
        intents: Claims that may have left and whose end is not known. One that also has an answer
            is settled by that answer first.
        answers: Raw answers whose pair was not yet taken from them.
        orders: Revocations to carry out.
        ended: Revocations that were carried out lately, each with its instant (wall clock); the
            oldest first.
    """

    pairs: dict[GrantId, PairReceived] = field(default_factory=dict[GrantId, PairReceived])
    parked_at_s: dict[GrantId, float] = field(default_factory=dict[GrantId, float])
    intents: dict[ClaimId, ClaimIntended] = field(default_factory=dict[ClaimId, ClaimIntended])
    answers: dict[ClaimId, AnswerReceived] = field(default_factory=dict[ClaimId, AnswerReceived])
    orders: dict[GrantId, RevocationOrdered] = field(
        default_factory=dict[GrantId, RevocationOrdered]
    )
    ended: dict[GrantId, tuple[ConsentEnded, float]] = field(
        default_factory=dict[GrantId, tuple[ConsentEnded, float]]
    )

    @property
    def parked(self) -> AbstractSet[GrantId]:
        """Grants whose newest pair the store has not confirmed."""
        return self.parked_at_s.keys()

    @property
    def parked_since_s(self) -> float:
        """When the oldest unconfirmed pair was written (wall clock), or 0."""
        return min(self.parked_at_s.values(), default=0.0)

    def apply(self, entry: SpoolEntry, *, at_s: float) -> None:
        """Fold one entry of the log in; `at_s` is when it was written (wall clock)."""
        match entry:
            case ClaimIntended():
                self.intents[entry.claim_id] = entry
            case AnswerReceived():
                self.answers[entry.claim_id] = entry
            case PairReceived():
                self._receive(entry, at_s)
            case PairConfirmed():
                held = self.pairs.get(entry.grant)
                if held is not None and held.pair.position == entry.position:
                    self.parked_at_s.pop(entry.grant, None)
            case ClaimEnded():
                self._end(entry.claim_id)
            case PairForgotten():
                self._forget(entry)
            case RevocationOrdered() | RevocationSettled():
                self._order(entry)
            case ConsentEnded():
                self._remember(entry, at_s)
            case _:
                assert_never(entry)

    def live_entries(self) -> Iterator[tuple[SpoolEntry, float]]:
        """Yield entries, each with its instant, that fold to this state, alone or on top of it."""
        for grant, received in self.pairs.items():
            yield received, self.parked_at_s.get(grant, 0.0)
            if grant not in self.parked_at_s:
                yield PairConfirmed(grant=grant, position=received.pair.position), 0.0
        # After the pairs: receiving a pair ends its claim.
        for answer in self.answers.values():
            yield answer, 0.0
        for intent in self.intents.values():
            yield intent, 0.0
        for order in self.orders.values():
            yield order, 0.0
        yield from self.ended.values()

    def _receive(self, entry: PairReceived, at_s: float) -> None:
        if entry.claim_id is not None:
            self._end(entry.claim_id)
        held = self.pairs.get(entry.grant)
        if held is not None and _is_same(held.pair, entry.pair):
            self.pairs[entry.grant] = entry  # perhaps sealed anew; what the store said still holds
        elif held is None or _replaces(entry.pair, held.pair):
            self.pairs.pop(entry.grant, None)  # the newest pair is the last
            self.pairs[entry.grant] = entry
            self.parked_at_s[entry.grant] = at_s

    def _order(self, entry: RevocationOrdered | RevocationSettled) -> None:
        standing = self.orders.get(entry.grant)
        if standing is not None and standing.consent.order > entry.consent.order:
            return
        if isinstance(entry, RevocationOrdered):
            self.orders[entry.grant] = entry
        else:
            self.orders.pop(entry.grant, None)

    def _remember(self, entry: ConsentEnded, at_s: float) -> None:
        standing = self.ended.get(entry.grant)
        if standing is None or standing[0].consent.order < entry.consent.order:
            self.ended.pop(entry.grant, None)
            self.ended[entry.grant] = (entry, at_s)
        while self.ended:
            oldest = next(iter(self.ended))
            if self.ended[oldest][1] + ENDED_KEPT_S > at_s:
                return
            del self.ended[oldest]

    def _end(self, claim_id: ClaimId) -> None:
        self.intents.pop(claim_id, None)
        self.answers.pop(claim_id, None)

    def _forget(self, entry: PairForgotten) -> None:
        held = self.pairs.get(entry.grant)
        if held is None or held.pair.consent.id != entry.position.consent_id:
            return
        if held.pair.generation <= entry.position.generation:
            del self.pairs[entry.grant]
            self.parked_at_s.pop(entry.grant, None)


def _is_same(held: StoredPair, other: StoredPair) -> bool:
    return held.position == other.position and held.fingerprint == other.fingerprint


def _replaces(new: StoredPair, held: StoredPair) -> bool:
    """Whether `new` wins over `held`, by the rule of the store's commit.

    The newer consent wins, then the higher generation. Two pairs of one generation exist where the
    identity provider answers a repeated claim anew: the one issued later is kept.
    """
    if new.consent.id != held.consent.id:
        return new.consent.order > held.consent.order
    if new.generation != held.generation:
        return new.generation > held.generation
    return new.issued_at_s > held.issued_at_s
