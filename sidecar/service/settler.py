"""Ends a doubt: a grant that nobody could heal becomes ``reauth_required``, with its cause.

It is the only way into that state but for a client's own `invalidate`; the brake is asked first.
"""

from __future__ import annotations

from enum import StrEnum
from typing import final

from sidecar.domain import policy
from sidecar.domain.commands import Dead, Done, Refused, Settle
from sidecar.domain.events import GrantReauthRequired, LossCause, TokenLost
from sidecar.domain.record import GrantId, GrantState, Position
from sidecar.ports import Observer, StoreUnavailable, TokenStore
from sidecar.service.brake import Brake


class Settlement(StrEnum):
    """What came of a doubt whose time is over."""

    SETTLED = "settled"
    """The grant is ``reauth_required``, by now or by an earlier call."""
    MOVED_ON = "moved_on"
    """There is no such doubt: somebody healed it, or its time is not over."""
    BRAKED = "braked"
    """The brake is on: the grant stays in doubt."""


@final
class Settler:
    """Settles denials whose healing time is over."""

    def __init__(self, *, store: TokenStore, brake: Brake, observer: Observer) -> None:
        self._store = store
        self._brake = brake
        self._observer = observer

    async def settle(self, grant: GrantId, position: Position) -> Settlement:
        """Turn the doubt about `position` into ``reauth_required``, unless the brake is on.

        Raises:
            StoreUnavailable: Nothing is known; ask again.
        """
        doubted = await self._store.read(grant)
        if doubted is None or doubted.position != position:
            return Settlement.MOVED_ON
        if doubted.state is GrantState.IN_DOUBT and not await self._brake.lets_settle(grant):
            return Settlement.BRAKED
        match await self._store.apply(grant, Settle(position=position)):
            case Refused():
                return Settlement.MOVED_ON
            case Done():
                await self._tell(grant, policy.loss_cause(doubted))
            case Dead():
                pass  # Who ended it has told it.
        return Settlement.SETTLED

    async def _tell(self, grant: GrantId, cause: LossCause) -> None:
        """Tell the end, once; the record itself is the truth if the store is away now."""
        self._observer.observe(GrantReauthRequired(grant=grant, cause=cause))
        if cause is not LossCause.CONSENT_OR_EXPIRY:
            self._observer.observe(TokenLost(grant=grant, cause=cause))
        try:
            await self._store.tell(grant, GrantState.REAUTH_REQUIRED, cause.value)
        except StoreUnavailable:
            return
