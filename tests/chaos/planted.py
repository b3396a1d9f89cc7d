"""Planted evidence for tests of the oracle: one user, two sidecars, and what they presented."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.chaos.evidence import (
    ClaimTag,
    Evidence,
    Life,
    Presentation,
    ProviderGrant,
    Rules,
    Span,
    Stored,
    StoreRestart,
)
from tests.chaos.oracle import Verdict, judge

ALICE, BOB = 100, 200
"""Two processes; a later life of a sidecar has the next number."""

BEAT_S = 0.01


def tag(claim: str, at: float, *, pid: int = ALICE, kind: str = "first") -> ClaimTag:
    """Return the tag of a claim's first presentation."""
    return ClaimTag(pid=pid, claim_id=claim, kind=kind, attempt=1, began_s=at)


def sent(
    token: str, by: ClaimTag, *, buys: str | None = None, seq: int = 1, answer: str = "sent"
) -> Presentation:
    """Return a presentation that is answered a tenth of a second after its beginning."""
    return Presentation(
        seq=seq,
        user="u",
        token=token,
        successor=buys,
        outcome="denied" if buys is None else "rotated",
        status=400 if buys is None else 200,
        answer=answer,
        arrived_s=by.began_s + 0.01,
        decided_s=by.began_s + 0.05,
        answered_s=by.began_s + 0.1,
        tag=by,
    )


def life(
    pid: int = ALICE, *, started: float = 0.0, ended: float | None = None, beats: bool = True
) -> Life:
    """Return a life that ran all the time, or (without beats) waited for a core all the time.

    It has read its spool after a second, if it lives so long.
    """
    until_s = 100.0 if ended is None else ended
    count = int((until_s - started) / BEAT_S) if beats else 0
    return Life(
        sidecar="alice" if pid < BOB else "bob",
        pid=pid,
        started_s=started,
        ready_s=started + 1.0 if started + 1.0 < until_s else None,
        ended_s=ended,
        beats=tuple(started + BEAT_S * beat for beat in range(count)),
    )


@dataclass(frozen=True, kw_only=True)
class Story:
    """A run with one user; the defaults are a quiet one."""

    presentations: tuple[Presentation, ...] = ()
    live: str | None = None
    stored: Stored | None = None
    ended: str | None = None
    lives: tuple[Life, ...] = ()
    spooled: frozenset[str] = frozenset()
    spool_times: Mapping[str, float] = field(default_factory=dict[str, float])
    holes: Mapping[str, tuple[Span, ...]] = field(default_factory=dict[str, tuple[Span, ...]])
    restarts: tuple[StoreRestart, ...] = ()
    grace_s: float = 0.0

    def judged(self) -> Verdict:
        """Return the oracle's verdict."""
        return judge(
            Evidence(
                rules=Rules(hold_s=3.0, quarantine_s=2.0, grace_s=self.grace_s),
                presentations=self.presentations,
                provider=(ProviderGrant(user="u", token=self.live, ended=self.ended),),
                stored={} if self.stored is None else {"u": self.stored},
                lives=self.lives or (life(ALICE), life(BOB)),
                spooled={"u": self.spooled},
                spool_times=self.spool_times,
                holes=self.holes,
                restarts=self.restarts,
            )
        )


def holds(token: str, *, state: str = "active") -> Stored:
    """Return what the store has."""
    return Stored(state=state, token=token)
