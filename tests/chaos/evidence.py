"""What a chaos run leaves behind, as values: all that the oracle may look at.

Every instant is Unix time of one machine, in seconds. Tokens are the digests of the ledger. It must
not know how any of it was gathered.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

SEPARATOR: Final = "."
TAG_FIELDS: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimTag:
    """Who sent a presentation, as a header says that only test processes write.

    Attributes:
        pid: The process.
        claim_id: Its claim; a claim may present more than once.
        kind: ``first``, ``probe`` or ``orphan``: the right under which the claim was leased.
        attempt: 1 for the claim's first presentation.
        began_s: When the process set about this presentation: after its lease, before its mark.
    """

    pid: int
    claim_id: str
    kind: str
    attempt: int
    began_s: float

    def __str__(self) -> str:
        """Return the header's value."""
        began_us = int(self.began_s * 1e6)
        return SEPARATOR.join(
            (str(self.pid), self.claim_id, self.kind, str(self.attempt), str(began_us))
        )

    @classmethod
    def parse(cls, text: str | None) -> Self | None:
        """Read a header's value; ``None`` for what is none of ours."""
        parts = (text or "").split(SEPARATOR)
        if len(parts) != TAG_FIELDS:
            return None
        pid, claim_id, kind, attempt, began_us = parts
        return cls(
            pid=int(pid),
            claim_id=claim_id,
            kind=kind,
            attempt=int(attempt),
            began_s=int(began_us) / 1e6,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Presentation:
    """One presentation of a refresh token, as the identity provider's ledger has it.

    Attributes:
        successor: What it bought, or ``None``.
        outcome: What it did to the grant; see `sidecar.sandbox.ledger`.
        answer: What the provider meant to happen to the answer.
        decided_s: When it did what it did; a provider may take its time before that.
        answered_s: When the answer had left; ``None``: it never did.
    """

    seq: int
    user: str
    token: str
    successor: str | None
    outcome: str
    status: int | None
    answer: str
    arrived_s: float
    decided_s: float
    answered_s: float | None
    tag: ClaimTag | None

    @property
    def is_success(self) -> bool:
        """Whether it bought a successor."""
        return self.successor is not None

    @property
    def is_withheld(self) -> bool:
        """Whether the provider kept from the client what it bought, on purpose."""
        return self.answer in ("dropped", "cut") or (self.status or 500) >= 500

    @property
    def began_s(self) -> float:
        """When its sender set about it; without a tag, when it came."""
        return self.arrived_s if self.tag is None else self.tag.began_s

    @classmethod
    def read(cls, entry: Mapping[str, Any]) -> Self:
        """Read an entry of the ledger."""
        return cls(
            seq=entry["seq"],
            user=entry["user"] or "",
            token=entry["token"],
            successor=entry["successor"],
            outcome=entry["outcome"],
            status=entry["status"],
            answer=entry["answer"],
            arrived_s=entry["arrived_at"],
            decided_s=entry["at"],
            answered_s=entry["answered_at"],
            tag=ClaimTag.parse(entry["request_id"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A stretch of time."""

    from_s: float
    to_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """One process of a sidecar, from its start to its death.

    Attributes:
        sidecar: Its name, which is also that of its spool: a later life of that name adopts it.
        ready_s: When it had read its spool; ``None``: it never came so far.
        ended_s: When it was certainly dead; ``None``: it outlived the run.
        stops: When it was stopped.
        beats: Instants at which the loop of its claims came round, each some milliseconds after
            the one before while the process runs at all.
    """

    sidecar: str
    pid: int
    started_s: float
    ready_s: float | None = None
    ended_s: float | None = None
    stops: tuple[Span, ...] = ()
    beats: tuple[float, ...] = field(default=(), repr=False)

    def beats_within(self, from_s: float, to_s: float) -> int:
        """Count how often the loop came round in a stretch."""
        return bisect_left(self.beats, to_s) - bisect_right(self.beats, from_s)

    def stopped_within(self, from_s: float, to_s: float) -> float:
        """Return for how long of a stretch the process was stopped."""
        return sum(max(0.0, min(stop.to_s, to_s) - max(stop.from_s, from_s)) for stop in self.stops)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreRestart:
    """The store was killed and came back, perhaps without its last writes."""

    down_s: float
    up_s: float
    forgets: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A grant as the store has it in the end; `token` is ``None`` where it holds none."""

    state: str
    token: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderGrant:
    """A grant as the identity provider has it in the end."""

    user: str
    token: str | None
    ended: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The time constants that decide what was right.

    Attributes:
        hold_s: How long strangers wait for a claim.
        quarantine_s: How long everybody waits for replays when the store came back.
        grace_s: For how long a used token buys further successors.
        alive_s: A process that runs for so long after an answer left must not lose it.
        repeats_within_s: A process that runs for so long with a dead claim in its spool, and
            reaches the store that knows this claim, must have repeated it.
        beat_s: How much running time one beat stands for.
    """

    hold_s: float
    quarantine_s: float
    grace_s: float = 0.0
    alive_s: float = 0.05
    repeats_within_s: float = 1.0
    beat_s: float = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All of one run.

    Attributes:
        presentations: The ledger's refreshes.
        provider: The provider's grants in the end, one for each user.
        stored: The store in the end, by user.
        spooled: Tokens that lie in spools in the end, by user.
        spool_times: When a claim's pair was durable, by claim.
        lives: Every process there was.
        holes: When a sidecar could not reach the store, by its name.
        restarts: Of the store.
    """

    rules: Rules
    presentations: tuple[Presentation, ...] = ()
    provider: tuple[ProviderGrant, ...] = ()
    stored: Mapping[str, Stored] = field(default_factory=dict[str, Stored])
    spooled: Mapping[str, frozenset[str]] = field(default_factory=dict[str, frozenset[str]])
    spool_times: Mapping[str, float] = field(default_factory=dict[str, float])
    lives: tuple[Life, ...] = ()
    holes: Mapping[str, tuple[Span, ...]] = field(default_factory=dict[str, tuple[Span, ...]])
    restarts: tuple[StoreRestart, ...] = ()
