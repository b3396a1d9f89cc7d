"""What the store passes on of changes: hints between sidecars, and entries of the clients' feed."""

from __future__ import annotations

from dataclasses import dataclass

from sidecar.domain.record import ConsentId, GrantId, GrantState


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """A hint of a peer (or of this sidecar) that a grant changed; may be lost or doubled."""

    grant: GrantId
    consent_id: ConsentId
    generation: int
    state: GrantState


@dataclass(frozen=True, slots=True, kw_only=True)
class Distress:
    """A peer asks everybody for a newer pair of this grant; may be lost or doubled."""

    grant: GrantId


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedEntry:
    """One change of a grant's state in the feed of `GET /events`.

    Attributes:
        cursor: Names the entry; later entries compare greater in the store.
        reason: Why, from the catalogue or a loss cause; or ``""``.
    """

    cursor: str
    grant: GrantId
    state: GrantState
    reason: str
    at_ms: int
