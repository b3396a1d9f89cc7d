"""A random story of a fleet, and an oracle that reads the token service's ledger and every disk.

One seed is one story: the same seed makes the same story, step by step. Sidecars look bearers up,
heal, obtain, revoke, crash and start again; the store is cut off, restarted, rolled back and wiped;
the token service loses requests and answers. Then everything is well for a while, and the oracle
says which of the protocol's invariants do not hold.

It must not know how a sidecar does its work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from random import Random
from typing import Any, Final, final

from sidecar.domain.events import WorkFailed
from sidecar.domain.failure import Operation
from sidecar.domain.outcomes import RevocationDone, RevocationKept
from sidecar.domain.policy import ProtocolTimes
from sidecar.domain.record import DEAD_STATES, GrantId, GrantKey, GrantRecord, GrantState
from sidecar.domain.spooled import PairReceived
from sidecar.domain.wire import TokenRequest
from tests.support.rotating_idp import Fault, Presentation
from tests.support.virtual_fleet import Fleet, Peer

TIMES: Final = ProtocolTimes(
    lease_s=5.0,
    hold_s=40.0,
    keep_every_s=3.0,
    quarantine_s=10.0,
    heal_s=60.0,
    housekeeping_every_s=1.0,
    commit_retry_limit_s=4.0,
)
"""Shorter than in earnest, in the same proportions."""

STORY_S: Final = 90.0
TROUBLES: Final = (
    *("crash",) * 6,
    *("cut",) * 4,
    *("outage",) * 2,
    *("consent",) * 2,
    "restart",
    "rollback",
    "revoke",
)
DEATHS: Final = (
    "now",
    "after Acquire",
    "after MarkSending",
    "admitted",
    "sent",
    "after AnswerReceived",
    "after PairReceived",
    "told",
    "at Commit",
    "after Commit",
    "after BeginRevocation",
    "after RevocationOrdered",
)
LOSSY: Final = (Fault.ANSWER_LOST, Fault.ERROR_AFTER, Fault.CUT_BEFORE_TOKEN)
BEFORE_REAUTH: Final = (GrantState.IN_DOUBT, GrantState.REAUTH_REQUIRED)


@final
class WatchedRecords(dict[GrantId, GrantRecord]):
    """The records of one incarnation of the store: no step may break I6, I9, I11 or I12."""

    def __init__(
        self, records: dict[GrantId, GrantRecord], *, report: Callable[[str], None]
    ) -> None:
        super().__init__(records)
        self._report = report

    def __setitem__(self, grant: GrantId, after: GrantRecord) -> None:
        before = self.get(grant)
        if before is not None:
            self._compare(before, after)
        super().__setitem__(grant, after)

    def _compare(self, before: GrantRecord, after: GrantRecord) -> None:
        if after.pair.order < before.pair.order:
            self._report(f"I6: {before.pair.order} became {after.pair.order}")
        if after.state is GrantState.REAUTH_REQUIRED and before.state not in BEFORE_REAUTH:
            self._report(f"I9: {before.state} became {after.state}")
        ending = (GrantState.REVOKING, GrantState.REVOKED)
        is_same = before.pair.consent.id == after.pair.consent.id
        if is_same and before.state in ending and after.state not in ending:
            self._report(f"I11: {before.state} became {after.state}")


@final
class Simulation:
    """One story.

    Attributes:
        violations: What the oracle found.
        told: What happened, for whoever looks at a failing seed.
    """

    def __init__(self, seed: int, *, has_faults: bool = True) -> None:
        self.violations: list[str] = []
        self.told: list[str] = []
        self.fleet = Fleet(times=TIMES)
        self.keys = [GrantKey(user=f"u{number}", provider="mikomo") for number in range(3)]
        self._random = Random(seed)  # noqa: S311 - a story, no secret
        self._has_faults = has_faults
        self._crashes: list[tuple[str, float]] = []
        self._accepted: dict[GrantKey, int] = {}
        self._rollbacks = 0
        self._doomed: set[str] = set()
        self._consented_s: dict[GrantKey, float] = {}
        self._callers: list[asyncio.Task[None]] = []

    async def run(self) -> None:
        """Live through the story, let everything become well, and ask the oracle."""
        fleet = self.fleet
        fleet.idp.life_s = 12
        fleet.idp.witness = self._witness
        fleet.latency_s = self._latency
        fleet.store.records = WatchedRecords({}, report=self._report)
        for name in "abc"[: self._random.choice((2, 3))]:
            await fleet.peer(name)
        for key in self.keys:
            await fleet.peers[0].obtain(key)
        fleet.idp.choose = self._fault
        await self._live()
        await self._become_well()
        self._judge()
        for peer in fleet.peers:
            await peer.stop()

    def _report(self, violation: str) -> None:
        self.violations.append(f"{self.fleet.clock.elapsed_s():.3f} {violation}")

    def _latency(self) -> float:
        slow = self._has_faults and self._random.random() < 0.01
        return self._random.uniform(0.5, 8.0) if slow else self._random.uniform(0.0002, 0.02)

    def _fault(self, _request: TokenRequest) -> Fault:
        self.fleet.idp.answer_after_s = self._random.choice((0.01, 0.05, 0.3, 2.0))
        if not self._has_faults or self._random.random() > 0.12:
            return Fault.NONE
        return self._random.choice(list(Fault))

    async def _live(self) -> None:
        ends_s = self.fleet.clock.elapsed_s() + STORY_S
        while self.fleet.clock.elapsed_s() < ends_s:
            await asyncio.sleep(self._random.expovariate(4.0))
            peer = self._random.choice(self.fleet.peers)
            key = self._random.choice(self.keys)
            if not peer.life.is_over:
                self._call(peer, self._ask(peer, key))
            if self._has_faults and self._random.random() < 0.12:
                await self._trouble(peer, key)

    async def _ask(self, peer: Peer, key: GrantKey) -> None:
        record = self.fleet.store.records.get(peer.parts.grant(key))
        if record is not None and self._random.random() < 0.1:
            await peer.parts.broker.renew(key, known=record.position, wait_s=10)
        else:
            await peer.ask(key)

    async def _trouble(self, peer: Peer, key: GrantKey) -> None:
        if peer.life.is_over or peer.name in self._doomed:
            return
        kind = self._random.choice(TROUBLES)
        self.told.append(f"{self.fleet.clock.elapsed_s():.3f} {kind} {peer.name} {key.user}")
        loop = asyncio.get_running_loop()
        match kind:
            case "crash":
                self._call(peer, self._crash(peer))
            case "cut":
                peer.store.is_away = True
                loop.call_later(self._random.uniform(0.1, 15), _reach, peer)
            case "outage":
                self.fleet.store.is_available = False
                loop.call_later(self._random.uniform(0.1, 10), self._restore)
            case "restart" | "rollback":
                self._restart_store(is_lossy=kind == "rollback")
            case "consent":
                self._call(peer, self._consent(peer, key))
            case _:
                self._call(peer, self._revoke(peer, key))

    async def _crash(self, peer: Peer) -> None:
        self._doomed.add(peer.name)
        life, point = peer.life, self._random.choice(DEATHS)

        def die() -> None:
            self._crashes.append((peer.name, self.fleet.clock.elapsed_s()))
            life.end()

        life.actions[point] = die
        await asyncio.sleep(0 if point == "now" else 20)
        if not life.is_over:
            die()
        await peer.crash()
        await asyncio.sleep(self._random.choice((0.01, 1.0, 5.0, 50.0)))
        await peer.start()
        self._doomed.discard(peer.name)

    def _restore(self) -> None:
        self.fleet.store.is_available = True

    def _restart_store(self, *, is_lossy: bool) -> None:
        """Restart the store; a lossy one forgets some records' last steps, or all of a record."""
        records = dict(self.fleet.store.records)
        if is_lossy:
            self._rollbacks += 1
            for grant in list(records):
                if self._random.random() < 0.3:
                    del records[grant]
                elif self._random.random() < 0.7:
                    records[grant] = self._older.get(grant, records[grant])
        self.fleet.restart_store()
        self.fleet.store.records = WatchedRecords(records, report=self._report)

    @property
    def _older(self) -> dict[GrantId, GrantRecord]:
        """Records as some sidecar's disk shows them to have been: one of its former pairs."""
        older: dict[GrantId, GrantRecord] = {}
        for peer in self.fleet.peers:
            for entry, _ in peer.disk.entries[: len(peer.disk.entries) // 2]:
                record = self.fleet.store.records.get(entry.grant)
                if isinstance(entry, PairReceived) and record is not None:
                    is_older = entry.pair.order < record.pair.order
                    if is_older and record.state is GrantState.ACTIVE:
                        older[entry.grant] = replace(record, pair=entry.pair)
        return older

    async def _consent(self, peer: Peer, key: GrantKey) -> None:
        now_s = self.fleet.clock.elapsed_s()
        if now_s - self._consented_s.get(key, 0.0) > 10:  # a person, no machine
            self._consented_s[key] = now_s
            await peer.obtain(key)

    async def _revoke(self, peer: Peer, key: GrantKey) -> None:
        record = self.fleet.store.records.get(peer.parts.grant(key))
        outcome = await peer.revoke(key)
        if record is not None and isinstance(outcome, RevocationDone | RevocationKept):
            newest = len(self.fleet.idp.families(key)) - 1
            if self._family_of(peer, key, record) == newest:
                self._accepted[key] = newest

    def _family_of(self, peer: Peer, key: GrantKey, record: GrantRecord) -> int:
        if not record.pair.sealed_pair:
            return -1
        tokens = peer.parts.vault.open_pair(peer.parts.grant(key), record.pair)
        origin = self.fleet.idp.origin(tokens.refresh_token.reveal())
        return -1 if origin is None else origin[0].number

    def _call(self, peer: Peer, work: Coroutine[Any, Any, None]) -> None:
        life = peer.life

        async def call() -> None:
            try:
                await work
            except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
                if not life.is_over:
                    self._report(f"a call of {peer.name} raised {type(error).__name__}")

        self._callers.append(asyncio.get_running_loop().create_task(call()))

    def _witness(self, name: str, token: str) -> None:
        """I4: nobody presents what its own disk has a successor of."""
        peer = next(peer for peer in self.fleet.peers if peer.name == name)
        presented = self.fleet.idp.origin(token)
        if presented is None:
            return
        family, generation = presented
        held = peer.spool.state.pairs.get(peer.parts.grant(family.key))
        if held is None:
            return
        own = peer.parts.vault.open_pair(held.grant, held.pair).refresh_token.reveal()
        origin = self.fleet.idp.origin(own)
        if origin is not None and origin[0] is family and origin[1] > generation:
            self._report(f"I4: {name} presented {token} and had {own}")

    async def _become_well(self) -> None:
        self._has_faults = False
        self.fleet.store.is_available = True
        await asyncio.sleep(80)  # the last crashes' restarts and the last slow calls
        for peer in self.fleet.peers:
            peer.store.is_away = False
        for _ in range(5):
            await asyncio.sleep(TIMES.hold_s)
            for peer in self.fleet.peers:
                for key in self.keys:
                    self._call(peer, self._ask(peer, key))
        await asyncio.gather(*self._callers, return_exceptions=True)
        await asyncio.sleep(5)

    def _judge(self) -> None:
        for key in self.keys:
            self._judge_grant(key)
        self._judge_presentations()
        for peer in self.fleet.peers:
            if peer.leftovers():
                self._report(f"{peer.name} is not at rest: {peer.leftovers()}")
            for failed in peer.of(WorkFailed):
                self._report(f"{peer.name} failed in {failed.where}: {failed.error}")

    def _judge_grant(self, key: GrantKey) -> None:
        """I8 and I11: the store holds the live pair, or nobody could; what was revoked is dead."""
        peer, idp = self.fleet.peers[0], self.fleet.idp
        live = idp.live_token(key)
        record = self.fleet.store.records.get(peer.parts.grant(key))
        newest = len(idp.families(key)) - 1
        is_lost = live is not None and self._is_lost(live)
        if self._accepted.get(key) == newest and not is_lost:
            # A rollback may undo a revocation that was carried out; its tokens stay dead.
            dead = DEAD_STATES if self._rollbacks else {GrantState.REVOKED}
            if live is not None or (record and record.state not in dead):
                self._report(f"I11: {key.user} is {record and record.state}, live: {live}")
            return
        if live is None or is_lost:
            return
        if record is None:
            self._report(f"I8: {key.user} has no record and {live} lives")
        elif record.state is not GrantState.ACTIVE:
            self._report(f"I8: {key.user} is {record.state} and {live} lives")
        elif self.fleet.stored_token(peer, key) != live:
            self._report(f"I8: {key.user} has {self.fleet.stored_token(peer, key)}, not {live}")

    def _is_lost(self, live: str) -> bool:
        """Whether the answer with this token was lost on the wire or died with its reader."""
        origin = self.fleet.idp.origin(live)
        assert origin is not None
        family, generation = origin
        if self._is_on_a_disk(live, family.key):
            return False
        if generation > 0:
            bringer = self._success(family.token(generation - 1))
        else:
            code = f"code-{family.key.user}-"
            brought = [
                entry
                for entry in self.fleet.idp.ledger
                if entry.operation is Operation.OBTAIN
                and entry.is_success
                and entry.token.startswith(code)
            ]
            bringer = brought[family.number]
        return bringer.fault in LOSSY or self._died_reading(bringer)

    def _is_on_a_disk(self, token: str, key: GrantKey) -> bool:
        return any(
            peer.parts.vault.open_pair(entry.grant, entry.pair).refresh_token.reveal() == token
            for peer in self.fleet.peers
            for entry, _ in peer.disk.entries
            if isinstance(entry, PairReceived) and entry.grant == peer.parts.grant(key)
        )

    def _success(self, token: str) -> Presentation:
        return next(e for e in self.fleet.idp.refreshes() if e.token == token and e.is_success)

    def _died_reading(self, entry: Presentation) -> bool:
        """Whether the presenter crashed before the answer could arrive."""
        return any(
            name == entry.peer and entry.at_s - 2.0 <= crashed_s <= entry.at_s + 1.0 + 0.001
            for name, crashed_s in self._crashes
        )

    def _judge_presentations(self) -> None:
        """I1, I2 and I10: each presentation beyond the first of a token has a cause."""
        succeeded: set[str] = set()
        seen: dict[str, list[Presentation]] = {}
        for entry in self.fleet.idp.refreshes():
            former = seen.setdefault(entry.token, [])
            is_caused = any(one.fault is not Fault.NONE for one in former)
            if former and not (is_caused or self._crashes or self._rollbacks):
                self._report(f"I10: {entry.token} was presented again without a cause")
            if entry.is_success and entry.token in succeeded:
                self._report(f"I1: {entry.token} was used twice")
            if entry.is_success:
                succeeded.add(entry.token)
            former.append(entry)


def _reach(peer: Peer) -> None:
    peer.store.is_away = False
