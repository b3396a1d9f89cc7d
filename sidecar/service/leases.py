"""The lease of a grant: asked for, and given back where nothing was sent for it.

What stands against a lease is decided in `sidecar.domain.transitions_claim`.
"""

from __future__ import annotations

import asyncio
from typing import Final, final

from sidecar.domain.commands import Acquire, AcquireVerdict, Incarnation, NewIncarnation, Release
from sidecar.domain.outcomes import Obstacle
from sidecar.domain.policy import ProbePolicy
from sidecar.domain.record import ClaimId, GrantId, LastError, RunId
from sidecar.ports import StoreUnavailable
from sidecar.service.claim_parts import ClaimParts, RefreshWish

ACQUIRE_TRIES: Final = 3


@final
class Leases:
    """Those of one sidecar."""

    def __init__(self, *, parts: ClaimParts) -> None:
        self._parts = parts
        self._met: dict[RunId, Incarnation] = {}

    async def acquire(self, wish: RefreshWish, claim_id: ClaimId) -> AcquireVerdict | None:
        """Ask for the lease, a few times with the same claim; ``None``: the store is away."""
        give_up_s = self._parts.clock.elapsed_s() + self._parts.times.acquire_patience_s
        tries = 0
        incarnation: Incarnation | None = None
        override_every_s = self._parts.times.override_every_s if wish.overrides_backoff else 0.0
        override_every_ms = int(override_every_s * 1000)
        while tries < ACQUIRE_TRIES and self._parts.clock.elapsed_s() <= give_up_s:
            command = Acquire(
                claim_id=claim_id,
                replica_id=self._parts.identity.replica_id,
                boot_id=self._parts.identity.boot_id,
                known=wish.known,
                incarnation=incarnation,
                lease_ms=int(self._parts.times.lease_s * 1000),
                quarantine_ms=int(self._parts.times.quarantine_s * 1000),
                may_probe=wish.is_ordered or self._parts.policy.probes is ProbePolicy.AFTER_HOLD,
                override_every_ms=override_every_ms,
                may_go_on=self._parts.policy.probes is ProbePolicy.OWNER_ONLY,
            )
            try:
                verdict = await self._parts.store.apply(wish.grant, command)
                if not isinstance(verdict, NewIncarnation):
                    return verdict
                incarnation = await self._meet(verdict.run_id)
            except StoreUnavailable:
                await asyncio.sleep(self._parts.times.commit_retry_first_s)
            tries += 1
        return None

    async def give_back(
        self, grant: GrantId, claim_id: ClaimId, *, why: Obstacle, is_orphan: bool
    ) -> None:
        """Give back a lease for which nothing was sent; if the store is away, it just ends."""
        error = LastError(operation="refresh", reason=why.value, at_ms=0)
        release = Release(
            claim_id=claim_id,
            is_unspent=True,
            backoff_ms=1000,
            error=error,
            is_orphan=is_orphan,
        )
        try:
            await self._parts.store.apply(grant, release)
        except StoreUnavailable:
            return

    async def _meet(self, run_id: RunId) -> Incarnation:
        """Announce an incarnation, each once: a store may have several at a time."""
        incarnation = self._met.get(run_id)
        if incarnation is None:
            incarnation = await self._parts.store.meet(run_id)
            self._met[run_id] = incarnation
        return incarnation
