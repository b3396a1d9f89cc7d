"""T7: whoever leaves in the middle, a client or a call of the store, takes nothing along.

It must not know how many are enough.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from random import Random
from typing import Final

from sidecar.adapters.redis_store import RedisTokenStore
from sidecar.adapters.system import SystemClock
from sidecar.domain.events import WorkFailed
from sidecar.domain.record import GrantId, GrantKey
from tests.proofs.engines import Engine, engines, is_astray, obtained, users
from tests.support.proxy_rig import listening_proxy
from tests.support.raw_http import RawClient, answer, connected, request, running_upstream
from tests.support.records import live, pair
from tests.support.rotating_idp import RotatingIdp
from tests.support.wait import until

BANKS: Final = 50
ANSWER_AFTER_S: Final = 0.02
AGAIN_AFTER_S: Final = 0.05
BATCH: Final = 100
"""Clients at once: a machine may allow a process a thousand sockets only."""

WITHIN_S: Final = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Departures:
    """What came of clients that reset their connections in the middle of a refresh.

    Attributes:
        resets: Connections reset while the claim of their grant was in flight.
        astray: Grants whose stored refresh token is not the live one.
    """

    resets: int
    presentations: int
    successes: int
    astray: int
    failures: int


async def resets(*, redis_url: str, clients: int, is_cancelling: bool) -> Departures:
    """Have each client ask for a grant of its own and leave while that is refreshed.

    Args:
        redis_url: A store of this proof alone.
        clients: How many leave.
        is_cancelling: The server cancels the handler of a client that left, as aiohttp may.
    """
    idp = RotatingIdp(clock=SystemClock())
    keys = users(clients, banks=BANKS)
    left = 0
    async with (
        engines(1, idp=idp, redis_url=redis_url) as (engine,),
        running_upstream(answer()) as upstream,
        listening_proxy(
            engine.parts.broker, observer=engine.parts.observer, upstream_port=upstream.port
        ) as (proxy, port),
    ):
        proxy.server.handler_cancellation = is_cancelling
        idp.life_s = 1
        for key in keys:
            await obtained(engine.parts, key, idp.new_code(key))
        await engine.until_expired(keys)
        idp.life_s, idp.answer_after_s = 3600, ANSWER_AFTER_S
        for start in range(0, clients, BATCH):
            batch = keys[start : start + BATCH]
            left += await _leave_in_the_middle(batch, idp=idp, engine=engine, port=port)
        astray = sum([await is_astray(engine.parts, idp, key) for key in keys])
        failures = len(engine.parts.observer.of(WorkFailed))
    refreshes = idp.refreshes()
    return Departures(
        resets=left,
        presentations=len(refreshes),
        successes=sum(entry.is_success for entry in refreshes),
        astray=astray,
        failures=failures,
    )


async def _leave_in_the_middle(
    keys: list[GrantKey], *, idp: RotatingIdp, engine: Engine, port: int
) -> int:
    """Ask for each grant, reset each connection once its claim has left; return how many were."""
    before = len(idp.refreshes())
    clients: dict[GrantKey, RawClient] = {}
    chance = Random(before)  # noqa: S311 - moments
    left: list[GrantKey] = []

    def leave(key: GrantKey) -> None:
        clients[key].reset()
        left.append(key)

    def note(_peer: str, token: str, _number: int) -> None:
        origin = idp.origin(token)
        assert origin is not None
        after_s = chance.uniform(0, ANSWER_AFTER_S / 2)
        asyncio.get_running_loop().call_later(after_s, leave, origin[0].key)

    idp.witness = note
    async with AsyncExitStack() as stack:
        for key in keys:
            clients[key] = await stack.enter_async_context(connected(port))
        async with asyncio.timeout(WITHIN_S), asyncio.TaskGroup() as group:
            for key, client in clients.items():
                group.create_task(_ask_until_reset(client, key))
        await until(
            lambda: not engine.parts.lane.running, within_s=WITHIN_S, what="every claim to end"
        )
    return len(left)


async def _ask_until_reset(client: RawClient, key: GrantKey) -> None:
    """Ask; whoever is put off, since the machine is busy, comes again."""
    line = f"GET /balances/v2/{key.provider} HTTP/1.1".encode()
    with suppress(ConnectionError, asyncio.IncompleteReadError):
        while True:
            await client.ask(request(line=line, user=key.user.encode()))
            await asyncio.sleep(AGAIN_AFTER_S)


async def wrong_replies(*, redis_url: str, prefix: str, cancels: int) -> int:
    """Cancel so many calls of the store anywhere; return how many later replies were another's."""
    store = RedisTokenStore(url=redis_url, prefix=prefix, observer=_Nobody(), clock=SystemClock())
    chance = Random(7)  # noqa: S311 - moments
    grants = [GrantId(f"{number:032x}") for number in range(8)]
    for number, grant in enumerate(grants):
        await store.apply(grant, live(pair(number), None))
    calls: tuple[Callable[[], Awaitable[object]], ...] = (
        lambda: store.read(grants[0]),
        lambda: store.apply(grants[1], live(pair(1), None)),
        lambda: store.scan("", 10),
        store.probe,
    )
    wrong = 0
    for _ in range(cancels):
        task = asyncio.ensure_future(chance.choice(calls)())
        for _ in range(chance.randrange(12)):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        asked = chance.sample(range(len(grants)), 3)
        records = await asyncio.gather(*(store.read(grants[number]) for number in asked))
        wrong += sum(
            record is None or record.pair != pair(number)
            for number, record in zip(asked, records, strict=True)
        )
    await store.close()
    return wrong


class _Nobody:
    """Observes nothing."""

    def observe(self, event: object) -> None:
        """Take no note."""
