"""T6: ten thousand callers of one expired grant cost one claim and little else.

It must not know how many are enough.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path
from typing import Final

from sidecar.adapters.system import SystemClock
from sidecar.domain.tokens import TokenFound
from tests.proofs.engines import Engine, engines, obtained
from tests.support.rotating_idp import RotatingIdp
from tests.support.sidecar_parts import KEY
from tests.support.wait import until

PAGE_KIB: Final = 4
PASS: Final = 20
AGAIN_AFTER_S: Final = 0.2
WITHIN_S: Final = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Herd:
    """What a herd cost.

    Attributes:
        served: Callers that got the one new bearer, those who were put off at a second try.
        put_off: Answers that told a caller to come again: the loop stood still for too long.
        store_calls: Of the sidecar that made most, from the first caller's question to the last
            one's answer.
        waited_p99_s: How long all but one in a hundred callers waited at most.
        grown_mib: Memory of the process while all of them waited, more than before.
    """

    presentations: int
    served: int
    put_off: int
    store_calls: int
    waited_p99_s: float
    grown_mib: float


async def herd(*, redis_url: str, sidecars: int, callers: int, answer_after_s: float) -> Herd:
    """Have so many callers of each sidecar want the bearer of one expired grant at once."""
    idp = RotatingIdp(clock=SystemClock())
    idp.life_s = 1
    async with engines(sidecars, idp=idp, redis_url=redis_url) as peers:
        await obtained(peers[0].parts, KEY, idp.new_code(KEY))
        await peers[0].until_expired([KEY])
        idp.life_s, idp.answer_after_s = 3600, answer_after_s
        for peer in peers:
            peer.forget()
        resident_before = _resident_mib()
        asking: list[asyncio.Task[_Asked]] = []
        for number, peer in enumerate(chain.from_iterable(repeat(peers, callers))):
            asking.append(asyncio.ensure_future(_ask(peer)))
            if number % PASS == 0:
                await asyncio.sleep(0)  # no loop takes thousands of requests in one pass
        await until(lambda: bool(idp.refreshes()), within_s=WITHIN_S, what="the claim")
        grown_mib = _resident_mib() - resident_before
        found = await asyncio.gather(*asking)
        store_calls = max(peer.store_calls for peer in peers)
    waited = sorted(asked.waited_s for asked in found)
    return Herd(
        presentations=len(idp.refreshes()),
        served=len(found) if len({asked.bearer for asked in found}) == 1 else 0,
        put_off=sum(asked.put_off for asked in found),
        store_calls=store_calls,
        waited_p99_s=waited[int(len(waited) * 0.99)],
        grown_mib=grown_mib,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What one caller got."""

    bearer: str
    put_off: int
    waited_s: float


async def _ask(peer: Engine) -> _Asked:
    """Ask until there is a bearer."""
    loop, broker = asyncio.get_running_loop(), peer.parts.broker
    asked_s = loop.time()
    put_off = 0
    while not isinstance(found := broker.peek(KEY) or await broker.token_for(KEY), TokenFound):
        put_off += 1
        await asyncio.sleep(AGAIN_AFTER_S)
    return _Asked(bearer=found.bearer.reveal(), put_off=put_off, waited_s=loop.time() - asked_s)


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * PAGE_KIB / 1024
