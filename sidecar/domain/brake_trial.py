"""The trial that follows a release of the brake: a few grants are let go, and their ends counted.

Decides how a grant's end counts and when a trial is over, and how it ended. It knows neither what
pulls the brake otherwise nor where a trial is kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from sidecar.domain.record import GrantId

USUAL_LIMIT: Final = 10
"""How many grants are let go where the release does not say."""
MOST_LIMIT: Final = 1000
"""Each grant of a trial is noted by name, so their number has a bound."""
TRIAL_MS: Final = 86_400_000
"""After a day the usual rules apply again, however few grants were decided by then."""
DENIED_OF: Final = 2
"""A trial fails when more than one of so many grants was denied."""


class Fate(StrEnum):
    """What has become of a grant in a trial."""

    PAIR = "p"
    """Its refresh brought a pair."""
    DENIED = "d"
    """Akoya refused its token; it is in doubt."""
    SETTLED = "s"
    """It was let become ``reauth_required``."""


_GRAVITY: Final = {Fate.PAIR: 0, Fate.DENIED: 1, Fate.SETTLED: 2}
"""A grant that comes again counts once, by the worst that was seen of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A release that lets `limit` grants go.

    Attributes:
        began_at_ms: When the brake was let go, on the store's clock.
        fates: What became of the grants so far, by their names; `limit` at most.
    """

    limit: int
    began_at_ms: int
    fates: tuple[tuple[GrantId, Fate], ...] = ()

    @property
    def decided(self) -> int:
        """How many grants were decided."""
        return len(self.fates)

    @property
    def denied(self) -> int:
        """How many of them were denied, settled or not."""
        return sum(fate is not Fate.PAIR for _, fate in self.fates)

    @property
    def is_full(self) -> bool:
        """Whether every grant that was let go has been decided."""
        return self.decided >= self.limit

    @property
    def is_failed(self) -> bool:
        """Whether it is full, and too many were denied."""
        return self.is_full and self.denied * DENIED_OF > self.decided

    def is_settled(self, grant: GrantId) -> bool:
        """Whether this grant was let become ``reauth_required``."""
        return (grant, Fate.SETTLED) in self.fates

    def is_running(self, now_ms: int) -> bool:
        """Whether it still counts; one that began in the future is of another clock."""
        return 0 <= now_ms - self.began_at_ms < TRIAL_MS and not self.is_full

    def noting(self, grants: Iterable[GrantId], fate: Fate) -> Trial:
        """Return the trial after these grants met a fate; a full one takes no other grant."""
        fates = dict(self.fates)
        for grant in grants:
            known = fates.get(grant)
            if known is None and len(fates) >= self.limit:
                continue
            if known is None or _GRAVITY[known] < _GRAVITY[fate]:
                fates[grant] = fate
        return replace(self, fates=tuple(sorted(fates.items())))
