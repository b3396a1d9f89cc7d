"""What a sidecar demands of the store: fit settings, and a fleet with its own keys.

It says what an operator should change and decides whether the sidecar may go on.
"""

from __future__ import annotations

import asyncio
from typing import Final, final

from sidecar.app.lane_side import LaneSide
from sidecar.domain.events import ConfigurationWarned
from sidecar.domain.sealing import KeyName
from sidecar.ports import StoreUnavailable
from sidecar.service.fleet_keys import FleetKeys

ASK_AGAIN_S: Final = 1.0


@final
class StoreTerms:
    """The store's side of the bargain; asked on the lane's loop."""

    def __init__(self, *, lane_side: LaneSide) -> None:
        self._lane_side = lane_side
        self._keys = FleetKeys(store=lane_side.store, vault=lane_side.parts.vault)
        self._is_answered = False

    async def are_met(self) -> bool:
        """Tell what is wrong; return whether nothing speaks against working with this store.

        A store that is away is no reason to stay away too: memory and spool serve, and nothing is
        claimed or sealed meanwhile.
        """
        try:
            are_met = await self._lane_side.thread.call(self._check())
        except StoreUnavailable:
            return True
        self._is_answered = True
        return are_met

    async def are_met_once_it_answers(self) -> bool:
        """Ask until the store has answered once; return what `are_met` does then."""
        are_met = True
        while not self._is_answered:
            are_met = await self.are_met()
            await asyncio.sleep(ASK_AGAIN_S)
        return are_met

    async def _check(self) -> bool:
        advice = await self._lane_side.store.inspect()
        for item in advice:
            self._warn(item.subject, item.advice)
        if any(item.is_fatal for item in advice):
            return False
        foreign = await self._keys.foreign()
        for name in foreign:
            self._warn(variable_of_key(name), advice_on_key(name))
        return not foreign

    def _warn(self, subject: str, advice: str) -> None:
        self._lane_side.parts.observer.observe(ConfigurationWarned(subject=subject, advice=advice))


def variable_of_key(name: KeyName) -> str:
    """Return the variable that gives a key."""
    return "SIDECAR_HASH_KEY" if name.key_id is None else "SIDECAR_ENCRYPTION_KEYS"


def advice_on_key(name: KeyName) -> str:
    """Return what to do about a key that is not the fleet's."""
    which = "this key" if name.key_id is None else f"the key {name.key_id}"
    return (
        f"{which} is not the one that the fleet of this store and prefix uses for this app and "
        "environment; take the fleet's, or another SIDECAR_REDIS_PREFIX"
    )
