"""The fleet's memory of grants in Redis: one hash a grant, one script a command.

Owns the names of the keys. Which server holds one is in `redis_topology`, what a script does in
``lua/``, how a record lies in its hash in `redis_codec`. Does not know tokens, leases or why it is
asked; it never retries, since a caller that asks again with the same claim is safe and this module
cannot tell.

Use one instance for each event loop.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import aclosing, asynccontextmanager, suppress
from functools import partial
from typing import Any, Final, cast, final

from redis.exceptions import NoScriptError, RedisError

from sidecar.adapters import redis_inspection, redis_rights
from sidecar.adapters.cancellation import cancellation_heeded
from sidecar.adapters.redis_cluster import ClusterTopology
from sidecar.adapters.redis_codec import RecordUnreadable, decode, instant_of
from sidecar.adapters.redis_hints import hints_of
from sidecar.adapters.redis_scan import escaped, page_of_hashes
from sidecar.adapters.redis_scripts import Argument, call_of, load_scripts
from sidecar.adapters.redis_server import RedisServer, causes_of_silence
from sidecar.adapters.redis_throttle import answer_of, arguments_of
from sidecar.adapters.redis_topology import entries_of, topology_of
from sidecar.adapters.redis_trouble import UNREADABLE, told_of, trouble_of
from sidecar.adapters.redis_verdicts import ReplyUnreadable, feed_entry_of, verdict_of
from sidecar.adapters.trust import Trust
from sidecar.domain.commands import Command, Incarnation, Pulse, VerdictT_co
from sidecar.domain.events import Outcome, StoreOperation, StoreOperationEnded, StoreTroubled
from sidecar.domain.notices import Distress, FeedEntry, Notice
from sidecar.domain.record import GrantId, GrantRecord, GrantState, RunId
from sidecar.domain.scheduling import DueGrant
from sidecar.domain.store_trouble import StoreTrouble
from sidecar.domain.throttle import Throttle, ThrottleStep
from sidecar.domain.transitions import AnyCommand
from sidecar.ports import Clock, Observer, StoreUnavailable

FEED_ENTRIES: Final = 10_000
FIRST_WAIT_S: Final = 0.1
LONGEST_WAIT_S: Final = 2.0
CURSOR: Final = re.compile(r"\d{1,19}-\d{1,19}")
FOREIGN: Final = (RedisError, OSError, UnicodeDecodeError)
Ask = Callable[..., Awaitable[Any]]


@final
class RedisTokenStore:
    """A `TokenStore` with `Deposits` in Redis 7 or Valkey: one server, Sentinel or a Cluster."""

    def __init__(
        self,
        *,
        url: str,
        prefix: str,
        observer: Observer,
        clock: Clock,
        trust: Trust | None = None,
    ) -> None:
        """Connect to nothing yet; over TLS trust `trust`, by default the system's authorities.

        Raises:
            ValueError: The form of the URL is unknown.
        """
        self._topology = topology_of(url, trust=trust, on_refused=self._trouble)
        self._prefix = prefix
        self._observer = observer
        self._clock = clock
        self._scripts = load_scripts()
        self._closed = asyncio.Event()
        self._renewed = asyncio.Event()

    async def read(self, grant: GrantId) -> GrantRecord | None:
        """Return the record, or ``None``."""
        async with self._asked(StoreOperation.READ):
            fields = await self._ask("HGETALL", self._key_of(grant))
            return decode(fields) if fields else None

    async def read_each(self, grants: Sequence[GrantId]) -> Mapping[GrantId, GrantRecord | None]:
        """Return the records that could be read, at one pipeline for each server."""
        async with self._asked(StoreOperation.READ):
            keys = [self._key_of(grant) for grant in grants]
            answers = await self._topology.ask_each([(key, ("HGETALL", key)) for key in keys])
            found: dict[GrantId, GrantRecord | None] = {}
            for grant, answer in zip(grants, answers, strict=True):
                if not isinstance(answer, Exception):
                    with suppress(RecordUnreadable):
                        found[grant] = decode(answer) if answer else None
            failed = [answer for answer in answers if isinstance(answer, Exception)]
            if failed and not found:
                raise failed[0]
            return found

    async def apply(self, grant: GrantId, command: Command[VerdictT_co]) -> VerdictT_co:
        """Carry out one command at the store's clock and incarnation."""
        call = call_of(cast("AnyCommand", command))
        async with self._asked(call.operation):
            reply = await self._run(
                call.operation,
                self._key_of(grant),
                self._notices,
                grant,
                *call.arguments,
            )
            return cast("VerdictT_co", verdict_of(reply))

    async def scan(
        self, cursor: str, limit: int
    ) -> tuple[str, Sequence[tuple[GrantId, GrantRecord]]]:
        """Return about `limit` records, perhaps none, and the next cursor."""
        async with self._asked(StoreOperation.SCAN):
            pattern = self._key_of("*", prefix=escaped(self._prefix))
            following, found = await page_of_hashes(
                self._topology, cursor, pattern=pattern, limit=limit
            )
            return following, tuple((self._grant_of(key), decode(fields)) for key, fields in found)

    async def probe(self) -> Pulse:
        """Return the clock, and the incarnation of every server that answers."""
        async with self._asked(StoreOperation.PROBE):
            servers = await self._topology.primaries()
            answers = await asyncio.gather(
                *(self._pulse_of(server) for server in servers), return_exceptions=True
            )
            heard = [answer for answer in answers if not isinstance(answer, BaseException)]
            if not heard:
                raise next(answer for answer in answers if isinstance(answer, BaseException))
            return Pulse(now_ms=heard[0][0], run_ids=frozenset(run_id for _, run_id in heard))

    async def _pulse_of(self, server: RedisServer) -> tuple[int, RunId]:
        now_ms, run_id = await self._run_with(server.ask, StoreOperation.PROBE, 0)
        return now_ms, RunId(run_id.decode())

    async def meet(self, run_id: RunId) -> Incarnation:
        """Announce an incarnation to the fleet; return when it was first met."""
        async with self._asked(StoreOperation.MEET):
            met_at_ms = await self._run(StoreOperation.MEET, f"{self._prefix}:incarnations", run_id)
            return Incarnation(run_id=run_id, met_at_ms=met_at_ms)

    async def agree(self, name: str, value: str) -> str:
        """Return what was proposed first; two calls, since nothing ever changes or goes."""
        async with self._asked(StoreOperation.AGREE):
            key = f"{self._prefix}:agreed"
            if await self._ask("HSETNX", key, name, value):
                return value
            agreed: bytes | None = await self._ask("HGET", key, name)
            if agreed is None:
                raise ReplyUnreadable("what was agreed on is gone")
            return agreed.decode()

    async def agreement_on(self, name: str) -> str | None:
        """Return what the fleet holds for a name; proposes nothing."""
        async with self._asked(StoreOperation.AGREE):
            agreed: bytes | None = await self._ask("HGET", f"{self._prefix}:agreed", name)
            return None if agreed is None else agreed.decode()

    async def take_canary(self, name: str, ttl_ms: int) -> bool:
        """Return whether the caller alone in the fleet may try, once in `ttl_ms`."""
        async with self._asked(StoreOperation.CANARY):
            key = f"{self._prefix}:canary:{name}"
            return bool(await self._ask("SET", key, "1", "NX", "PX", ttl_ms))

    async def deposit(self, name: str, envelope: bytes, *, ttl_ms: int) -> None:
        """Keep an envelope for `ttl_ms`."""
        async with self._asked(StoreOperation.DEPOSITS):
            await self._ask("SET", self._deposit(name), envelope, "PX", ttl_ms)

    async def peek(self, name: str) -> bytes | None:
        """Return the envelope and leave it there."""
        async with self._asked(StoreOperation.DEPOSITS):
            return cast("bytes | None", await self._ask("GET", self._deposit(name)))

    async def take(self, name: str) -> bytes | None:
        """Return the envelope to one caller alone."""
        async with self._asked(StoreOperation.DEPOSITS):
            return cast("bytes | None", await self._ask("GETDEL", self._deposit(name)))

    async def schedule(
        self, shard: int, due: Mapping[GrantId, int], *, only_sooner: bool = False
    ) -> int:
        """Note when grants of one shard are due; return how many instants that changed."""
        async with self._asked(StoreOperation.SCHEDULE):
            options = ("LT", "CH") if only_sooner else ("CH",)
            return int(await self._ask("ZADD", self._due(shard), *options, *_scores(due)))

    async def unschedule(self, shard: int, grants: Collection[GrantId]) -> None:
        """Strike grants of one shard from the schedule."""
        async with self._asked(StoreOperation.SCHEDULE):
            await self._ask("ZREM", self._due(shard), *grants)

    async def take_due(self, shard: int, limit: int, *, retake_ms: int) -> Sequence[DueGrant]:
        """Return what is due of one shard, and put it off for whoever dies with it."""
        async with self._asked(StoreOperation.TAKE_DUE):
            taken = await self._run(StoreOperation.TAKE_DUE, self._due(shard), limit, retake_ms)
            return tuple(
                DueGrant(grant=GrantId(grant.decode()), at_ms=instant_of(at))
                for grant, at in zip(taken[::2], taken[1::2], strict=True)
            )

    async def note_uses(self, shard: int, uses: Mapping[GrantId, int]) -> None:
        """Note when grants of one shard were last used."""
        async with self._asked(StoreOperation.USES):
            await self._ask("ZADD", self._used(shard), "GT", *_scores(uses))

    async def last_uses(self, shard: int, grants: Sequence[GrantId]) -> Mapping[GrantId, int]:
        """Return when grants of one shard were last used."""
        async with self._asked(StoreOperation.USES):
            found = await self._ask("ZMSCORE", self._used(shard), *grants)
            return {
                grant: instant_of(at)
                for grant, at in zip(grants, found, strict=True)
                if at is not None
            }

    async def forget_uses(self, shard: int, *, before_ms: int) -> None:
        """Forget every use of one shard before an instant."""
        async with self._asked(StoreOperation.USES):
            await self._ask("ZREMRANGEBYSCORE", self._used(shard), "-inf", f"({before_ms}")

    async def throttle(self, step: ThrottleStep) -> tuple[Throttle, bool]:
        """Take one step on the fleet's throttle."""
        async with self._asked(StoreOperation.THROTTLE):
            key = f"{self._prefix}:throttle"
            return answer_of(await self._run(StoreOperation.THROTTLE, key, *arguments_of(step)))

    async def reserve_settlement(self, grant: GrantId, *, window_ms: int, most: int | None) -> bool:
        """Return whether the grant may be settled in the running window."""
        async with self._asked(StoreOperation.RESERVE):
            key = f"{self._prefix}:settlements"
            limit = -1 if most is None else most
            return bool(await self._run(StoreOperation.RESERVE, key, grant, window_ms, limit))

    async def tell(self, grant: GrantId, state: GrantState, reason: str) -> None:
        """Append a change of state to the feed."""
        async with self._asked(StoreOperation.EVENTS):
            fields = ("grant", grant, "state", state.value, "reason", reason)
            await self._ask("XADD", self._feed, "MAXLEN", "~", FEED_ENTRIES, "*", *fields)

    async def feed(self, cursor: str, limit: int) -> Sequence[FeedEntry]:
        """Return entries after `cursor`; from the oldest for ``""`` and for what is no cursor."""
        async with self._asked(StoreOperation.EVENTS):
            start = f"({cursor}" if CURSOR.fullmatch(cursor) else "-"
            entries = await self._ask("XRANGE", self._feed, start, "+", "COUNT", limit)
            return tuple(feed_entry_of(at, fields) for at, fields in entries)

    async def call_fleet(self, grant: GrantId) -> None:
        """Ask every peer to offer its newest pair of this grant."""
        async with self._asked(StoreOperation.EVENTS):
            await self._ask("PUBLISH", self._distress, grant)

    async def listen(self) -> AsyncIterator[Notice | Distress]:
        """Yield hints as they come, connecting again for ever; ends when the store is closed."""
        wait_s = FIRST_WAIT_S
        while not self._closed.is_set():
            try:
                with cancellation_heeded():
                    silent = await causes_of_silence(await self._topology.primaries())
                    server = await self._topology.listener()
                for cause in silent:
                    self._trouble(cause)
                hints = hints_of(
                    server.subscriber,
                    notices=self._notices,
                    distress=self._distress,
                    is_over=self._renewed.is_set,
                )
                async with aclosing(hints):
                    async for hint in hints:
                        wait_s = FIRST_WAIT_S
                        if hint is not None:
                            yield hint
            except FOREIGN as error:  # a hint is never relied on: what was missed is polled for
                self._trouble(trouble_of(error))
            with suppress(TimeoutError), cancellation_heeded():
                await asyncio.wait_for(self._closed.wait(), wait_s)
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)

    async def renew(self, *, url: str, trust: Trust) -> None:
        """Log in to the same servers as `url` says, and trust `trust`, from now on.

        Idle connections go at once, others after the call that they serve, and the subscription
        within seconds. Call it on the loop of this store.
        """
        entries = entries_of(url, trust=trust, on_refused=self._trouble)
        self._renewed.set()
        self._renewed = asyncio.Event()
        await self._topology.renew(entries)

    async def inspect(self) -> tuple[redis_inspection.StoreAdvice, ...]:
        """Return what an operator should change in the store; empty if nothing."""
        async with self._asked(StoreOperation.PROBE):
            return await redis_inspection.inspect(
                await self._topology.primaries(),
                is_cluster=isinstance(self._topology, ClusterTopology),
                scratch=self._key_of("scratch"),
            )

    async def missing_rights(self, name: str) -> tuple[str, ...]:
        """Return the commands that this user may not use; `name` is nobody else's."""
        async with self._asked(StoreOperation.PROBE):
            return await redis_rights.missing_rights(
                self._topology.ask,
                server=await self._topology.listener(),
                scratch=f"{self._prefix}:doctor:{name}",
                channels=(self._notices, self._distress),
            )

    async def close(self) -> None:
        """Let every connection go; ends `listen`."""
        self._closed.set()
        await self._topology.close()

    @property
    def _notices(self) -> str:
        return f"{self._prefix}:notices"

    @property
    def _distress(self) -> str:
        return f"{self._prefix}:distress"

    @property
    def _feed(self) -> str:
        return f"{self._prefix}:feed"

    def _deposit(self, name: str) -> str:
        return f"{self._prefix}:connect:{name}"

    def _due(self, shard: int) -> str:
        return f"{self._prefix}:due:{shard:02}"

    def _used(self, shard: int) -> str:
        return f"{self._prefix}:used:{shard:02}"

    def _key_of(self, grant: str, *, prefix: str | None = None) -> str:
        return f"{self._prefix if prefix is None else prefix}:c:{{{grant}}}"

    def _grant_of(self, key: bytes) -> GrantId:
        return GrantId(key.decode()[len(self._prefix) + len(":c:{") : -1])

    async def _ask(self, command: str, key: str, *rest: Argument) -> Any:
        return await self._topology.ask(key, command, key, *rest)

    async def _run(self, operation: StoreOperation, key: str, *arguments: Argument) -> Any:
        return await self._run_with(partial(self._topology.ask, key), operation, 1, key, *arguments)

    async def _run_with(self, ask: Ask, operation: StoreOperation, *rest: Argument) -> Any:
        script = self._scripts[operation]
        if operation is not StoreOperation.COMMIT:  # which must not need a second try
            with suppress(NoScriptError):
                return await ask("EVALSHA", script.sha, *rest)
        return await ask("EVAL", script.text, *rest)

    def _trouble(self, cause: StoreTrouble) -> None:
        self._observer.observe(StoreTroubled(cause=cause))

    @asynccontextmanager
    async def _asked(self, operation: StoreOperation) -> AsyncGenerator[None]:
        """Time one call, report its end, and let nothing foreign out, nor any text of it."""
        began_s = self._clock.elapsed_s()
        outcome = Outcome.FAILED
        try:
            with cancellation_heeded():
                yield
            outcome = Outcome.OK
        except (*UNREADABLE, *FOREIGN) as error:
            told, cause = told_of(error)
            self._trouble(cause)
            raise StoreUnavailable(told, cause=cause) from None
        finally:
            self._observer.observe(
                StoreOperationEnded(
                    operation=operation,
                    outcome=outcome,
                    duration_s=self._clock.elapsed_s() - began_s,
                )
            )


def _scores(instants: Mapping[GrantId, int]) -> Iterator[Argument]:
    for grant, at_ms in instants.items():
        yield at_ms
        yield grant
