"""Keeps end users being refreshed: callers that ask every sidecar for new pairs, all the time.

Some ask two sidecars at once for the same user, so that claims race. A caller that waits long goes
away and asks for the next user; its refresh goes on. Failures are what this is about and count for
nothing here: the ledger tells what came of it.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Mapping, Sequence
from typing import Final, final

import aiohttp

from tests.chaos.akoya import ChaosAkoya, provider_of
from tests.chaos.sidecars import ChaosSidecar
from tests.support.fleet import CONTROL_KEY, REDIRECT_URI

CALLERS_A_SIDECAR: Final = 16
PATIENCE_S: Final = 2.0
TWINS: Final = 0.1
"""Share of the wishes that go to two sidecars at once."""
DATA_CALLS: Final = 0.03
"""Share of the wishes that come as a data call whose bearer has ended."""
SENT_AWAY_S: Final = 0.3
"""How long a caller stays away that met a closed door or was told 503: knocking takes the cores."""
SENT_AWAY: Final = 503
_HEADERS: Final = {"Authorization": f"Bearer {CONTROL_KEY}"}


@final
class Load:
    """Everybody who wants something of the fleet."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        sidecars: Sequence[ChaosSidecar],
        users: Sequence[str],
        chance: random.Random,
    ) -> None:
        self._session = session
        self._sidecars = sidecars
        self._users = users
        self._chance = chance
        self._is_over = False
        self._next = itertools.cycle(chance.sample(users, len(users)))

    async def onboard(self, akoya: ChaosAkoya) -> None:
        """Have every user consent, and every code redeemed by some sidecar."""
        waiting = iter(zip(self._users, itertools.cycle(self._sidecars), strict=False))

        async def work() -> None:
            for user, sidecar in waiting:
                while not await self._redeem(sidecar, user, await akoya.consent(user)):  # noqa: ASYNC110
                    await asyncio.sleep(0.2)  # the store is slow to come

        async with asyncio.TaskGroup() as group:
            for _ in range(CALLERS_A_SIDECAR * len(self._sidecars)):
                group.create_task(work())

    async def run(self) -> None:
        """Ask until `end`; returns when the last caller has had its answer or gone away."""
        async with asyncio.TaskGroup() as group:
            for sidecar in self._sidecars:
                for _ in range(CALLERS_A_SIDECAR):
                    group.create_task(self._call_for_ever(sidecar))

    def end(self) -> None:
        """Let nobody ask any more."""
        self._is_over = True

    async def ask_for(self, users: Sequence[str]) -> None:
        """Ask once for each of some users, a few at a time."""
        waiting = iter(zip(users, itertools.cycle(self._sidecars), strict=False))

        async def work() -> None:
            for user, sidecar in waiting:
                await self._refresh(sidecar, user)

        async with asyncio.TaskGroup() as group:
            for _ in range(CALLERS_A_SIDECAR):
                group.create_task(work())

    async def _call_for_ever(self, sidecar: ChaosSidecar) -> None:
        while not self._is_over:
            user, drawn = next(self._next), self._chance.random()
            if drawn < TWINS:
                twin = self._chance.choice(self._sidecars)
                await asyncio.gather(self._refresh(sidecar, user), self._refresh(twin, user))
            elif drawn < TWINS + DATA_CALLS:
                await self._fetch(sidecar, user)
            else:
                await self._refresh(sidecar, user)

    async def _redeem(self, sidecar: ChaosSidecar, user: str, code: str) -> bool:
        body = {
            "user": user,
            "provider": provider_of(user),
            "code": code,
            "redirect_uri": REDIRECT_URI,
        }
        async with self._session.post(
            f"{sidecar.control_url}/grants", json=body, headers=_HEADERS
        ) as answer:
            assert answer.status in (201, 503), await answer.text()
            return answer.status == 201

    async def _refresh(self, sidecar: ChaosSidecar, user: str) -> None:
        url = f"{sidecar.control_url}/grants/{provider_of(user)}/{user}/refresh"
        await self._go("POST", url, _HEADERS)

    async def _fetch(self, sidecar: ChaosSidecar, user: str) -> None:
        url = f"{sidecar.proxy_url}/accounts-info/v2/{provider_of(user)}"
        await self._go("GET", url, {"Sidecar-User": user})

    async def _go(self, method: str, url: str, headers: Mapping[str, str]) -> None:
        patience = aiohttp.ClientTimeout(total=PATIENCE_S)
        try:
            async with self._session.request(
                method, url, headers=headers, timeout=patience
            ) as answer:
                await answer.read()
            if answer.status == SENT_AWAY:
                await asyncio.sleep(SENT_AWAY_S)
        except aiohttp.ClientConnectorError:
            await asyncio.sleep(SENT_AWAY_S)
        except (aiohttp.ClientError, TimeoutError):
            return
