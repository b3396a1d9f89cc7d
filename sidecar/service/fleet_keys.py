"""Compares the keys of this sidecar with the fleet's, before it seals or names anything with them.

A key of another value under the fleet's name would seal pairs that no peer can open, and another
hash key would name every grant anew: both look like lost users. It knows no key, only proofs.
"""

from __future__ import annotations

from typing import final

from sidecar.domain.sealing import KeyName
from sidecar.ports import TokenStore
from sidecar.service.vault import Vault


@final
class FleetKeys:
    """What the fleet agreed on; whoever came first with a key decided its value."""

    def __init__(self, *, store: TokenStore, vault: Vault) -> None:
        self._store = store
        self._vault = vault

    async def foreign(self) -> tuple[KeyName, ...]:
        """Return which keys of this sidecar are not the fleet's.

        Raises:
            StoreUnavailable: Nothing is known; ask again.
        """
        return tuple(
            [
                name
                for name, proof in self._vault.proofs().items()
                if await self._store.agree(name.label, proof) != proof
            ]
        )

    async def seem_foreign(self) -> tuple[KeyName, ...]:
        """Return the same for somebody who only looks: a key that the fleet lacks stays unknown.

        Raises:
            StoreUnavailable: Nothing is known; ask again.
        """
        return tuple(
            [
                name
                for name, proof in self._vault.proofs().items()
                if await self._store.agreement_on(name.label) not in (None, proof)
            ]
        )
