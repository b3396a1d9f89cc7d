"""What of a grant may be shown: everything but its tokens.

It opens envelopes to learn whose a grant is and lets the tokens go at once. It does not know who
asks, or what a view looks like on the wire.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from sidecar.domain.notices import FeedEntry
from sidecar.domain.record import (
    GrantId,
    GrantKey,
    GrantRecord,
    GrantState,
    LastError,
    StoredPair,
)
from sidecar.domain.tokens import TokenPair
from sidecar.ports import SealError
from sidecar.service.vault import Vault


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantView:
    """A grant without its tokens; instants are milliseconds since the epoch, 0: there is none.

    Attributes:
        key: Whose it is; ``None`` where the envelope of the key cannot be opened here.
        generation: -1 for a tombstone whose consent never brought a pair.
        subject: ``sub`` of the newest id_token, or ``""``.
        akoya_grant_id: ``grant_id`` of the newest id_token, or ``""``.
        is_readable: Whether this sidecar has the key that the pair is sealed with.
    """

    key: GrantKey | None
    grant: GrantId
    state: GrantState
    consented_at_ms: int
    generation: int
    id_token_expires_at_ms: int
    refreshed_at_ms: int
    subject: str
    akoya_grant_id: str
    is_readable: bool
    last_error: LastError | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EventView:
    """One change of a grant's state, and whose grant it is (``None`` where nothing tells).

    Attributes:
        cursor: As clients see it: what follows it is later.
    """

    cursor: str
    entry: FeedEntry
    key: GrantKey | None


@final
class GrantViewer:
    """Makes views of records."""

    def __init__(self, *, vault: Vault) -> None:
        self._vault = vault

    def view(self, grant: GrantId, record: GrantRecord) -> GrantView:
        """Return what may be shown of a record; of one that cannot be opened, what is not sealed.

        A tombstone holds no pair, so there is nothing in it that could be unreadable.
        """
        pair = record.pair
        tokens = self._opened(grant, pair)
        return GrantView(
            key=self.owner(grant, pair),
            grant=grant,
            state=record.state,
            consented_at_ms=pair.consent.consented_at_ms,
            generation=pair.generation,
            id_token_expires_at_ms=pair.expires_at_ms,
            refreshed_at_ms=record.committed_at_ms,
            subject="" if tokens is None else tokens.subject,
            akoya_grant_id="" if tokens is None else tokens.akoya_grant_id,
            is_readable=tokens is not None or not pair.sealed_pair,
            last_error=record.last_error,
        )

    def owner(self, grant: GrantId, pair: StoredPair) -> GrantKey | None:
        """Return whose grant it is, or ``None`` where this sidecar cannot tell."""
        try:
            return self._vault.open_key(grant, pair.sealed_key)
        except SealError:
            return None

    def _opened(self, grant: GrantId, pair: StoredPair) -> TokenPair | None:
        if not pair.sealed_pair:
            return None
        try:
            return self._vault.open_pair(grant, pair)
        except SealError:
            return None
