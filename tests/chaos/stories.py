"""What a mutation takes away and a short chaos may not show, told as stories in virtual time.

Each story holds with the sidecar as it is, and must not hold with its mutation grafted on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Final

import pytest

from sidecar.domain.policy import ProtocolTimes
from sidecar.domain.record import GrantState
from tests.chaos.mutants.grafts import MUTATIONS
from tests.support.sidecar_parts import KEY
from tests.support.virtual_fleet import Fleet
from tests.support.virtual_time import VirtualLoop


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a story or a run of chaos ended.

    Attributes:
        claims: Presentations that bought a successor.
        lost: Grants that need not have been lost.
        unexplained: Presentations of a token that had been presented, without a right.
    """

    claims: int
    lost: int
    unexplained: int

    @property
    def is_bad(self) -> bool:
        """Whether something came of it that the protocol rules out."""
        return bool(self.lost or self.unexplained)


async def a_rollback_that_nobody_notices() -> Ending:
    """A store forgot a pair that it had confirmed; its holder is asked for a newer one."""
    fleet = Fleet(times=ProtocolTimes(store_probe_every_s=1e4))
    peer = await fleet.with_expired_grant()
    await fleet.forgets_what_it_confirmed(peer)

    await peer.parts.broker.renew(KEY, known=fleet.record(peer).position, wait_s=10)

    await peer.rest()
    await fleet.end()
    claims = _claims(fleet)
    return Ending(claims=claims, lost=0, unexplained=len(fleet.idp.refreshes()) - claims)


async def a_death_longer_than_the_healing() -> Ending:
    """A holder comes back with the only live pair after its grant was given up."""
    fleet = Fleet()
    holder = await fleet.with_expired_grant()
    holder.life.dies_at = "told"
    asking = asyncio.get_running_loop().create_task(holder.ask())
    await holder.died()
    await asyncio.gather(asking, return_exceptions=True)
    other = await fleet.peer("b")
    await asyncio.sleep(301)
    await other.ask()
    await asyncio.sleep(610)
    assert fleet.record(other).state is GrantState.REAUTH_REQUIRED

    await holder.start()

    await holder.rest()
    lost = int(fleet.record(holder).state is not GrantState.ACTIVE)
    await fleet.end()
    return Ending(claims=_claims(fleet), lost=lost, unexplained=0)


def _claims(fleet: Fleet) -> int:
    return sum(presented.is_success for presented in fleet.idp.refreshes())


STORIES: Final[Mapping[str, Callable[[], Coroutine[Any, Any, Ending]]]] = {
    "no_drain": a_rollback_that_nobody_notices,
    "final_reauth": a_death_longer_than_the_healing,
}
"""Each mutation with the story that it spoils."""


def tell(mutation: str, *, is_grafted: bool) -> Ending:
    """Tell a mutation's story, with the mutation or with the sidecar as it is."""
    with (
        pytest.MonkeyPatch.context() as patch,
        asyncio.Runner(loop_factory=VirtualLoop) as runner,
    ):
        if is_grafted:
            MUTATIONS[mutation](patch.setattr)
        return runner.run(STORIES[mutation]())
