"""The look-up of a call's bearer, within the shares that the calls of a listener have of its slots.

A call beyond its share may not wait and holds no slot, but it may look: what is known it is told,
or served, like the calls that may wait. It must not know what is sent to the client.
"""

from __future__ import annotations

from typing import final

from sidecar.domain.bulkhead import GLANCE_S, SlotLimit
from sidecar.domain.record import GrantKey
from sidecar.domain.request_target import Refused
from sidecar.domain.tokens import ProblemReason, TokenFound, TokenLookup, TokenRefused
from sidecar.domain.tracing import SpanName
from sidecar.http.accounting import Account
from sidecar.http.bulkhead import Bulkhead
from sidecar.ports import Tracer
from sidecar.service.patience import Patience
from sidecar.service.token_source import BearerSource


@final
class LookUp:
    """Looks bearers up that memory doesn't hand out at once."""

    def __init__(self, *, source: BearerSource, tracer: Tracer, bulkhead: Bulkhead) -> None:
        self._source = source
        self._tracer = tracer
        self._bulkhead = bulkhead

    async def find(
        self, key: GrantKey, *, patience: Patience, account: Account
    ) -> TokenLookup | Refused:
        """Return a bearer, why there is none, or that the call exceeds its share."""
        bulkhead = self._bulkhead
        with self._tracer.span(SpanName.TOKEN_LOOKUP), bulkhead.waiting(key) as limit:
            if limit is None:
                return await self._source.token_for(key, patience=patience)
            if bulkhead.is_beset:
                return overloaded(account, limit)
            patience.shorten(GLANCE_S)
            with bulkhead.glancing(), bulkhead.aside(key.provider):
                found = await self._source.token_for(key, patience=patience)
        if isinstance(found, TokenRefused) and found.is_cut_short:
            return overloaded(account, limit)
        crowded = bulkhead.crowding(key.provider)
        if isinstance(found, TokenFound) and crowded is not None:
            return overloaded(account, crowded)
        return found


def overloaded(account: Account, limit: SlotLimit) -> Refused:
    """Return the refusal of a call that met a limit, and note which."""
    account.limit = limit
    return Refused(reason=ProblemReason.OVERLOADED)
