"""`make bench-grants`: what a due grant costs the store, and what a grant weighs there.

A private Redis is filled with records as the codec writes them, each with an id_token of some 1,100
bytes, an instant in the schedule and a last use. At each size the real scheduler refreshes due
grants through the real scripts; the token service beside it answers at once. Exits 1 where a
budget is broken.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import sys
import tempfile
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from sidecar.adapters.memory_spool import MemorySpool
from sidecar.adapters.redis_codec import encode
from sidecar.adapters.redis_store import RedisTokenStore
from sidecar.adapters.system import SystemClock
from sidecar.domain.commands import Commit
from sidecar.domain.events import Event, StoreOperationEnded
from sidecar.domain.policy import ProtocolTimes, RefreshAhead, RefreshPolicy
from sidecar.domain.record import (
    Consent,
    ConsentId,
    GrantId,
    GrantKey,
    GrantRecord,
    RunId,
    StoredPair,
)
from sidecar.domain.scheduling import SHARDS, shard_of
from sidecar.domain.secret import Secret
from sidecar.domain.tokens import TokenPair
from sidecar.domain.wire import TokenReply, TokenRequest
from sidecar.service.vault import PairPlace, Vault
from tests.support.redis_server import RedisServer
from tests.support.scripted_idp import ScriptedIdp, field_of, pair_answer
from tests.support.sidecar_parts import SidecarParts, World, sealer
from tests.support.wait import until

PREFIX: Final = "sidecar"
SIZES: Final = (10_000, 100_000, 1_000_000)
DUE: Final = 2_000
MOST_KIB: Final = 4.0
MOST_GROWTH: Final = 3.0
PAGE: Final = 500
LIFE_S: Final = 86_400
LATER_MS: Final = 60_000_000
BANKS: Final = 20
ANYBODY: Final = "?" * 32
"""Stands for the name of a grant in a command that is made once."""

TIMES: Final = ProtocolTimes(due_poll_s=0.02, ahead_least_s=0.0)
"""Polled often, so that the bench does not sit out the pauses between polls."""


def main() -> int:
    """Measure at each size; return 0 if both budgets hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--most", type=int, default=SIZES[-1], help="leave larger fleets out")
    sizes = [size for size in SIZES if size <= parser.parse_args().most]
    with tempfile.TemporaryDirectory(prefix="akoya-sidecar-bench-") as directory:
        server = RedisServer(Path(directory))
        server.start()
        try:
            return 0 if asyncio.run(_measure(server, sizes)) else 1
        finally:
            server.stop()


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one due grant cost at one size of the fleet."""

    calls: float
    redis_us: float
    wall_ms: float


class CountedCalls:
    """Counts the calls of a store."""

    def __init__(self) -> None:
        self.count = 0

    def observe(self, event: Event) -> None:
        """Count one more."""
        self.count += isinstance(event, StoreOperationEnded)


async def _measure(server: RedisServer, sizes: list[int]) -> bool:
    costs: list[Cost] = []
    weights_kib: list[float] = []
    _line(f"{'grants':>9}{'calls':>8}{'Redis us':>10}{'wall ms':>9}{'KiB a grant':>13}")
    with server.client() as client:
        empty = client.info("memory")["used_memory"]
        filled = 0
        for size in sizes:
            _fill(client, range(filled, size))
            filled = size
            weights_kib.append((client.info("memory")["used_memory"] - empty) / size / 1024)
            costs.append(await _refresh_due(server, client, size))
            cost = costs[-1]
            _line(
                f"{size:9,}{cost.calls:8.2f}{cost.redis_us:10.0f}{cost.wall_ms:9.2f}"
                f"{weights_kib[-1]:13.2f}"
            )
    growth = costs[-1].redis_us / costs[0].redis_us
    _line(f"Redis time for a due grant, {sizes[-1]:,} to {sizes[0]:,}: {growth:.2f} (at most 3)")
    _line(f"heaviest grant: {max(weights_kib):.2f} KiB (less than {MOST_KIB:.0f})")
    return growth <= MOST_GROWTH and max(weights_kib) < MOST_KIB


def _fill(client: Any, numbers: range) -> None:
    """Write records, instants and uses of grants that are not due; a few pairs serve for all.

    A pair is bound to its grant, but nobody opens these, and they weigh what any pair weighs.
    """
    vault = Vault(sealer=sealer())
    now_ms = _store_ms(client)
    connection = client.connection_pool.get_connection()
    patterns = [_packed(connection, _record(vault, number, now_ms)) for number in range(32)]
    for first in range(numbers.start, numbers.stop, PAGE):
        grants = [_grant(number) for number in range(first, first + PAGE)]
        pages = [
            pattern.replace(ANYBODY.encode(), grant.encode())
            for grant, pattern in zip(grants, patterns * (PAGE // 32 + 1), strict=False)
        ]
        for shard in range(SHARDS):
            of_shard = [grant for grant in grants if shard_of(grant) == shard]
            for kind, at_ms in (("due", now_ms + LATER_MS + first), ("used", now_ms)):
                scores = [word for grant in of_shard for word in (at_ms, grant)]
                pages += connection.pack_command("ZADD", f"{PREFIX}:{kind}:{shard:02}", *scores)
        connection.send_packed_command(pages)
        for _ in range(PAGE + 2 * SHARDS):
            connection.read_response()
    client.connection_pool.release(connection)


def _packed(connection: Any, record: GrantRecord) -> bytes:
    """Return the command that writes a record, for a grant whose name is put in later."""
    words = [word for field in encode(record).items() for word in field]
    key = f"{PREFIX}:c:{{{ANYBODY}}}"
    return b"".join(connection.pack_command("HSET", key, *words))


async def _refresh_due(server: RedisServer, client: Any, size: int) -> Cost:
    """Make some grants due, and let one sidecar refresh them."""
    clock = SystemClock()
    calls, idp = CountedCalls(), ScriptedIdp(otherwise=_answer)
    store = RedisTokenStore(url=server.unix_url, prefix=PREFIX, observer=calls, clock=clock)
    world = World(
        clock=clock,
        store=store,
        idp=idp,
        times=TIMES,
        policy=RefreshPolicy(ahead=RefreshAhead.ACTIVE),
    )
    parts = SidecarParts.build(world, spool=MemorySpool(clock=clock), name=f"bench-{size}")
    await _make_due(parts.vault, store, size)
    async with parts.running(), asyncio.TaskGroup() as group:
        calls.count, before_us, began_s = 0, _busy_us(client), clock.elapsed_s()
        scheduling = group.create_task(parts.scheduler.run())
        await until(
            lambda: len(idp.replies) >= DUE,
            within_s=600,
            what="the due grants to be refreshed",
        )
        wall_s, busy_us = clock.elapsed_s() - began_s, _busy_us(client) - before_us
        counted = calls.count
        scheduling.cancel()
    await store.close()
    return Cost(
        calls=counted / DUE,
        redis_us=busy_us / DUE,
        wall_ms=wall_s * 1000 / DUE,
    )


async def _make_due(vault: Vault, store: RedisTokenStore, size: int) -> None:
    """Store pairs that are about to expire, by the scripts, and have them due."""
    now_ms = (await store.probe()).now_ms
    due: list[dict[GrantId, int]] = [{} for _ in range(SHARDS)]
    for number in range(DUE):
        key = GrantKey(user=f"due-{size}-{number}", provider=f"bank-{number % BANKS}")
        pair = _pair(vault, key, expires_at_ms=now_ms + 1)
        grant = vault.grant_id(key)
        await store.apply(grant, Commit(pair=pair, claim_id=None, is_live=True))
        due[shard_of(grant)][grant] = now_ms - 1
    for shard, instants in enumerate(due):
        await store.schedule(shard, instants)
        await store.note_uses(shard, instants)


def _record(vault: Vault, number: int, now_ms: int) -> GrantRecord:
    key = GrantKey(user=f"user-{number:08}", provider="a-bank-of-a-usual-name")
    pair = _pair(vault, key, expires_at_ms=2_000_000_000_000)
    run_id = RunId(sha256(b"run").hexdigest()[:40])
    return GrantRecord(pair=pair, run_id=run_id, committed_run_id=run_id, committed_at_ms=now_ms)


def _pair(vault: Vault, key: GrantKey, *, expires_at_ms: int) -> StoredPair:
    grant = vault.grant_id(key)
    consent = Consent(id=ConsentId(grant), consented_at_ms=1_700_000_000_000)
    tokens = TokenPair(
        id_token=Secret(_bearer(key.user)),
        refresh_token=Secret(_refresh_token(key.user)),
        life_s=LIFE_S,
        issued_at_s=1_700_000_000,
        subject=key.user,
        akoya_grant_id=grant,
    )
    place = PairPlace(
        grant=grant, sealed_key=vault.seal_key(grant, key), consent=consent, generation=0
    )
    return vault.seal_pair(tokens, place=place, asked_at_ms=expires_at_ms - LIFE_S * 1000)


def _answer(request: TokenRequest) -> TokenReply:
    spent = field_of(request, "refresh_token")
    return pair_answer(_refresh_token(spent), bearer=_bearer(spent), expires_in=LIFE_S)


def _bearer(of: str) -> str:
    """Return a JWT of the size of Akoya's: some 1,100 characters, 340 of them the signature."""
    claims = {"sub": of, "exp": 2_000_000_000, "iat": 1_700_000_000, "more": "c" * 430}
    parts = ({"alg": "RS256", "kid": "k" * 40}, claims)
    head = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode() for part in parts]
    return ".".join((*head, "s" * 342))


def _refresh_token(of: str) -> str:
    return f"Ch{sha256(of.encode()).hexdigest()}{'r' * 30}"


def _grant(number: int) -> GrantId:
    return GrantId(sha256(b"%d" % number).hexdigest()[:32])


def _store_ms(client: Any) -> int:
    seconds, micros = client.time()
    return int(seconds) * 1000 + int(micros) // 1000


def _busy_us(client: Any) -> float:
    """Return how long Redis' one thread was busy so far."""
    cpu: dict[str, float] = client.info("cpu")
    return (cpu["used_cpu_user_main_thread"] + cpu["used_cpu_sys_main_thread"]) * 1_000_000


def _line(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
