"""What the proxy asks for bearers, as a Protocol: look one up, heal one, say that one was accepted.

It knows nothing of HTTP; the broker implements it, the proxy listener calls it.
"""

from __future__ import annotations

from typing import Protocol

from sidecar.domain.record import GrantKey
from sidecar.domain.tokens import HealVerdict, TokenFound, TokenLookup
from sidecar.service.patience import Patience


class BearerSource(Protocol):
    """Bearers of grants. No method may raise but for cancellation.

    Cancelling a call must never cancel a refresh that it waits for: the client next door may
    leave at any time.
    """

    def peek(self, key: GrantKey) -> TokenFound | None:
        """Return a fresh token from memory; ``None`` when it must be looked up. The hot path."""
        ...

    def patience(self) -> Patience:
        """Return the patience of one call, for everything that it asks here."""
        ...

    async def token_for(self, key: GrantKey, *, patience: Patience) -> TokenLookup:
        """Return a token, refreshed if need be, or why there is none now.

        It waits no longer than `patience` has left, and not at all for what is known to last.
        """
        ...

    async def heal(
        self, key: GrantKey, rejected: TokenFound, *, product: str, patience: Patience
    ) -> HealVerdict:
        """Answer to a 401 of the upstream for `rejected`; waits as `token_for` does.

        Called a second time with the token of a `HealGranted` that was rejected too: then no
        other token helps, and 401s of this product start no refresh for a while.
        """
        ...

    def accepted(self, key: GrantKey, found: TokenFound, *, product: str) -> None:
        """Take note of a 2xx on the product whose 401 had opened a cool-down; must not block."""
        ...
