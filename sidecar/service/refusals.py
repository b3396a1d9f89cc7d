"""What a request is told about a grant for which there is no newer pair.

One mapping, used wherever a look-up or a heal ends without a token.
"""

from __future__ import annotations

from sidecar.domain.outcomes import GrantGone, Postponed
from sidecar.domain.record import GrantId
from sidecar.domain.tokens import ProblemReason, TokenRefused


def refusal(grant: GrantId, outcome: Postponed | GrantGone) -> TokenRefused:
    """Return the refusal: it may heal by itself, the grant is dead, or there is none."""
    match outcome:
        case Postponed():
            return TokenRefused(
                grant=grant,
                reason=ProblemReason.TOKEN_UNAVAILABLE,
                retry_after_s=outcome.retry_in_s,
                is_cut_short=outcome.is_cut_short,
            )
        case GrantGone(state=None):
            return TokenRefused(grant=grant, reason=ProblemReason.GRANT_UNKNOWN)
        case GrantGone():
            return TokenRefused(grant=grant, reason=ProblemReason.REAUTH_REQUIRED)
