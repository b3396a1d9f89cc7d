"""Whole engines of many sidecars in one process, on one real Redis and one rotating token service.

What they share is real time, the store's scripts and its notices; what is left out is HTTP and the
disk. It must not know what a proof asks of them.
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, final

from sidecar.adapters.memory_spool import MemorySpool
from sidecar.adapters.redis_store import RedisTokenStore
from sidecar.adapters.system import SystemClock
from sidecar.domain.events import StoreOperationEnded
from sidecar.domain.outcomes import Stored
from sidecar.domain.policy import ProtocolTimes, RefreshAhead, RefreshPolicy
from sidecar.domain.record import GrantKey, Position
from sidecar.domain.secret import Secret
from tests.support.idp_front import IdpFront, QuietWire
from tests.support.redis_server import RedisServer
from tests.support.rotating_idp import RotatingIdp
from tests.support.sidecar_parts import REDIRECT_URI, RecordingObserver, SidecarParts, World
from tests.support.wait import until

WAIT_S: Final = 60.0


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """One sidecar without HTTP.

    Attributes:
        asked: What its store was asked.
    """

    parts: SidecarParts
    spool: MemorySpool
    store: RedisTokenStore
    asked: RecordingObserver

    @property
    def store_calls(self) -> int:
        """How often the store was asked since the last `forget`."""
        return len(self.asked.of(StoreOperationEnded))

    async def until_expired(self, keys: Sequence[GrantKey]) -> None:
        """Wait until no bearer of these grants is handed out any more."""
        expire_ms = [await self._expires_at_ms(key) for key in keys]
        now_ms = self.parts.serving_parts.store_clock.now_ms
        await until(lambda: now_ms() > max(expire_ms), within_s=60, what="every bearer to expire")

    async def _expires_at_ms(self, key: GrantKey) -> int:
        record = await self.parts.claim_parts.store.read(self.parts.grant(key))
        assert record is not None, "it was obtained"
        return record.pair.expires_at_ms

    def forget(self) -> None:
        """Let what was recorded so far go."""
        self.parts.observer.events.clear()
        self.asked.events.clear()
        self.spool.written.clear()


@contextmanager
def private_redis() -> Generator[RedisServer]:
    """Run a server of this proof alone; it keeps nothing."""
    with tempfile.TemporaryDirectory(prefix="sidecar-proof-") as directory:
        server = RedisServer(Path(directory))
        server.start()
        try:
            yield server
        finally:
            server.stop()


@asynccontextmanager
async def engines(count: int, *, idp: RotatingIdp, redis_url: str) -> AsyncGenerator[list[Engine]]:
    """Run so many sidecars on one store, with a housekeeping that is not hurried."""
    async with AsyncExitStack() as stack:
        running: list[Engine] = []
        for number in range(count):
            engine = _built(f"peer-{number}", idp=idp, redis_url=redis_url)
            stack.push_async_callback(engine.store.close)
            await stack.enter_async_context(engine.parts.running(keeps_house=True))
            running.append(engine)
        yield running


def _built(name: str, *, idp: RotatingIdp, redis_url: str) -> Engine:
    clock, asked = SystemClock(), RecordingObserver()
    spool = MemorySpool(clock=clock)
    store = RedisTokenStore(url=redis_url, prefix="proof", observer=asked, clock=clock)
    world = World(
        clock=clock,
        store=store,
        idp=IdpFront(service=idp, wire=QuietWire(), peer=name),
        times=ProtocolTimes(),
        policy=replace(RefreshPolicy(), wait_s=WAIT_S, ahead=RefreshAhead.OFF),
    )
    parts = SidecarParts.build(world, spool=spool, name=name)
    return Engine(parts=parts, spool=spool, store=store, asked=asked)


def users(count: int, *, banks: int) -> list[GrantKey]:
    """Return so many end users, spread over so many banks."""
    return [
        GrantKey(user=f"user-{number}", provider=f"bank-{number % banks}")
        for number in range(count)
    ]


async def obtained(parts: SidecarParts, key: GrantKey, code: str) -> Position:
    """Exchange a code; return where the first pair stands."""
    outcome = await parts.obtainer.obtain(key, Secret(code), redirect_uri=REDIRECT_URI)
    assert isinstance(outcome, Stored), outcome
    return outcome.pair.position


async def is_astray(parts: SidecarParts, idp: RotatingIdp, key: GrantKey) -> bool:
    """Whether the store holds another refresh token than the one that can be used."""
    grant = parts.grant(key)
    record = await parts.claim_parts.store.read(grant)
    assert record is not None, "no record is ever removed"
    stored = parts.vault.open_pair(grant, record.pair).refresh_token.reveal()
    return stored != idp.live_token(key)
