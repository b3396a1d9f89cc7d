"""Ends a doubt: a grant that nobody could heal becomes ``reauth_required``, with its cause.

It is the only way into that state but for a client's own `invalidate`.
"""

from __future__ import annotations

from typing import final

from sidecar.domain import policy
from sidecar.domain.commands import Refused, Settle
from sidecar.domain.events import GrantReauthRequired, LossCause, TokenLost
from sidecar.domain.record import GrantId, GrantState, Position
from sidecar.ports import Observer, StoreUnavailable, TokenStore


@final
class Settler:
    """Settles denials whose healing time is over."""

    def __init__(self, *, store: TokenStore, observer: Observer) -> None:
        self._store = store
        self._observer = observer

    async def settle(self, grant: GrantId, position: Position) -> bool:
        """Turn the doubt about `position` into ``reauth_required``; return whether it is that now.

        Raises:
            StoreUnavailable: Nothing is known; ask again.
        """
        doubted = await self._store.read(grant)
        if isinstance(await self._store.apply(grant, Settle(position=position)), Refused):
            return False
        if doubted is not None and doubted.state is GrantState.IN_DOUBT:
            cause = policy.loss_cause(doubted)
            self._observer.observe(GrantReauthRequired(grant=grant, cause=cause))
            if cause is not LossCause.CONSENT_OR_EXPIRY:
                self._observer.observe(TokenLost(grant=grant, cause=cause))
            await self._tell(grant, cause)
        return True

    async def _tell(self, grant: GrantId, cause: LossCause) -> None:
        """Put the end into the feed; the record itself is the truth if the store is away now."""
        try:
            await self._store.tell(grant, GrantState.REAUTH_REQUIRED, cause.value)
        except StoreUnavailable:
            return
