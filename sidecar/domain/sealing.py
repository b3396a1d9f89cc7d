"""What an envelope is bound to, and what a key is called; nothing here seals or knows a key."""

from __future__ import annotations

from dataclasses import dataclass

from sidecar.domain.record import GrantId


@dataclass(frozen=True, slots=True, kw_only=True)
class SealContext:
    """What an envelope is bound to: opening it for anything else fails.

    Attributes:
        purpose: ``pair``, ``key``, ``answer`` or ``order``.
        grant: Whose it is; of an ``order``, the name of its deposit.
        consent_id: Empty for ``key`` and ``order``.
        generation: 0 for ``key`` and ``order``; the claimed generation for ``answer``.
        claim_id: Only for ``answer``.
    """

    purpose: str
    grant: GrantId
    consent_id: str = ""
    generation: int = 0
    claim_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyName:
    """Which key of a sidecar: one that seals, by its id, or the one that names grants."""

    key_id: str | None

    @property
    def label(self) -> str:
        """The name under which the fleet agrees on this key."""
        return "hash" if self.key_id is None else f"encryption:{self.key_id}"
