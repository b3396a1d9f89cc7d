"""The mutations by name: what each takes away from the protocol, and where that must show.

Each is grafted onto production code by a function that sets an attribute, so that a process keeps
it for life and a test takes it off again.
"""

# A mutation changes the insides of production code.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, cast

import aiohttp

from sidecar.adapters import redis_store
from sidecar.adapters.file_spool import FileSpool
from sidecar.adapters.http_idp import HttpIdentityProvider
from sidecar.adapters.memory_spool import MemorySpool
from sidecar.adapters.memory_store import MemoryTokenStore
from sidecar.adapters.redis_scripts import Call, call_of
from sidecar.adapters.redis_store import RedisTokenStore
from sidecar.domain.commands import (
    Acquire,
    Commit,
    Committed,
    CommitVerdict,
    Duplicate,
    Stale,
)
from sidecar.domain.record import ClaimId, GrantId, GrantRecord, GrantState, ReplicaId
from sidecar.domain.spooled import PairForgotten, PairReceived
from sidecar.domain.transitions import AnyCommand
from sidecar.ports import Clock, Entropy, TokenStore
from sidecar.service.claim import Claim
from sidecar.service.claim_parts import Announce, RefreshWish, Ticket
from sidecar.service.committer import Committer
from sidecar.service.refresher import Refresher

Graft = Callable[[object, str, object], None]
READ_TIMER_S: Final = 2.0


def no_spool(graft: Graft) -> None:
    """Keep copies in memory only: they die with their process."""

    def open_nothing(root: Path, *, clock: Clock, entropy: Entropy) -> MemorySpool:
        del root
        spool: Any = MemorySpool(clock=clock)
        spool.replica_id = ReplicaId(entropy.new_id())
        spool.adopted_directories = 0
        return cast("MemorySpool", spool)

    graft(FileSpool, "open", staticmethod(open_nothing))


def fenced_commit(graft: Graft) -> None:
    """Refuse the commit of a claim that lost its lease, as one fences a lock."""
    offer = Committer.offer

    async def fenced(self: Committer, received: PairReceived, *, is_live: bool) -> CommitVerdict:
        record = await self._store.read(received.grant)
        if record is not None and _is_late(record, received):
            self._conclude(received, Stale())
            return Stale()
        return await offer(self, received, is_live=is_live)

    graft(Committer, "offer", fenced)


def _is_late(record: GrantRecord, received: PairReceived) -> bool:
    is_newer = received.pair.order > record.pair.order
    return is_newer and received.claim_id is not None and record.claim_id != received.claim_id


def dropped_on_acknowledgement(graft: Graft) -> None:
    """Drop the copy in the spool as soon as the store says that it has the pair."""
    conclude = Committer._conclude

    def conclude_and_drop(self: Committer, received: PairReceived, verdict: CommitVerdict) -> None:
        conclude(self, received, verdict)
        if isinstance(verdict, Committed | Duplicate):
            self._journal.note(PairForgotten(grant=received.grant, position=received.pair.position))

    graft(Committer, "_conclude", conclude_and_drop)


def read_timer(graft: Graft) -> None:
    """Wait two seconds for an answer, as HTTP clients do."""
    build = HttpIdentityProvider.__init__

    def build_with_timer(self: HttpIdentityProvider, **options: Any) -> None:
        build(self, **options)
        self._timeout = aiohttp.ClientTimeout(
            connect=options["connect_timeout_s"], total=READ_TIMER_S
        )

    graft(HttpIdentityProvider, "__init__", build_with_timer)


def no_drain(graft: Graft) -> None:
    """Claim what the store shows, whatever waits on the own disk."""

    async def drain_nothing(
        self: Refresher, local: PairReceived, wish: RefreshWish, announce: Announce
    ) -> bool:
        del self, local, wish, announce
        return True

    async def claim_at_once(
        self: Refresher,
        wish: RefreshWish,
        claim_id: ClaimId,
        record: GrantRecord,
        **how: Any,
    ) -> None:
        ticket = Ticket(
            grant=wish.grant,
            provider=wish.provider,
            claim_id=claim_id,
            record=record,
            tokens=self._parts.vault.open_pair(wish.grant, record.pair),
            kind=how["kind"],
        )
        await Claim(parts=self._parts, ticket=ticket, announce=how["announce"]).run()

    graft(Refresher, "_drain", drain_nothing)
    graft(Refresher, "_claim", claim_at_once)


def no_quarantine(graft: Graft) -> None:
    """Claim at once from a store that may have lost writes."""

    def call_without_quarantine(command: AnyCommand) -> Call:
        if isinstance(command, Acquire):
            command = replace(command, quarantine_ms=0)
        return call_of(command)

    graft(redis_store, "call_of", call_without_quarantine)


def final_reauth(graft: Graft) -> None:
    """Let ``reauth_required`` be the end: nothing heals it but a new consent."""
    for store in (RedisTokenStore, MemoryTokenStore):
        graft(store, "apply", _unless_dead(store))


def _unless_dead(store: type[Any]) -> Callable[..., Awaitable[object]]:
    apply = store.apply

    async def apply_unless_dead(self: TokenStore, grant: GrantId, command: object) -> object:
        if isinstance(command, Commit):
            record = await self.read(grant)
            if record is not None and record.state is GrantState.REAUTH_REQUIRED:
                return Stale()
        return await apply(self, grant, command)

    return apply_unless_dead


MUTATIONS: Final[Mapping[str, Callable[[Graft], None]]] = {
    "no_spool": no_spool,
    "fenced_commit": fenced_commit,
    "dropped_on_acknowledgement": dropped_on_acknowledgement,
    "read_timer": read_timer,
    "no_drain": no_drain,
    "no_quarantine": no_quarantine,
    "final_reauth": final_reauth,
}
