"""Redis and the Python transitions side by side: each step is taken twice and compared.

It must not know how long a history is or who draws it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from random import Random
from typing import Any, final

from sidecar.adapters.memory_store import is_news
from sidecar.adapters.redis_codec import decode
from sidecar.adapters.redis_scripts import call_of, load_scripts
from sidecar.adapters.redis_verdicts import verdict_of
from sidecar.domain import transitions
from sidecar.domain.commands import (
    Acquire,
    AdoptOrphan,
    BackingOff,
    BeginRevocation,
    Committed,
    Done,
    Leased,
    MarkSending,
    Moment,
    Purge,
    Release,
    Settle,
)
from sidecar.domain.record import GrantId, GrantRecord, GrantState
from sidecar.domain.transitions import AnyCommand
from tests.support.equivalence import is_equivalent
from tests.support.random_commands import (
    FAR_MS,
    GRANTS,
    RUNS,
    START_MS,
    TIME_STEPS_MS,
    random_command,
)


@final
class TwoStores:
    """Takes every step on a record in Python and on a hash in Redis, and compares.

    Attributes:
        reached: How often each landmark of the protocol was met.
        steps: How many commands were applied on both sides.
        doubled: How many of them were applied again at once.
    """

    def __init__(self, redis: Any, prefix: str) -> None:
        self.reached: Counter[str] = Counter()
        self.steps = 0
        self.doubled = 0
        self.moment = Moment(now_ms=START_MS, run_id=RUNS[0])
        self._redis = redis
        self._prefix = prefix
        self._records: dict[GrantId, GrantRecord] = {}
        self._notices: list[dict[str, object]] = []
        self._heard = redis.pubsub()
        self._heard.subscribe(f"{prefix}:notices")
        self._scripts = load_scripts(
            "local function moment()\n"
            f"  local set = redis.call('HMGET', '{prefix}:moment', 'now', 'run')\n"
            "  return tonumber(set[1]), set[2]\n"
            "end\n"
        )
        for script in self._scripts.values():
            redis.script_load(script.text)

    def start_afresh(self) -> None:
        """Forget every record on both sides."""
        self._records.clear()
        self._redis.delete(*map(self._key, GRANTS))
        self.move_to(Moment(now_ms=START_MS, run_id=RUNS[0]))

    def move_to(self, moment: Moment) -> None:
        """Set the clock and the incarnation of both sides."""
        self.moment = moment
        mapping = {"now": moment.now_ms, "run": moment.run_id}
        self._redis.hset(f"{self._prefix}:moment", mapping=mapping)

    def step(self, rng: Random, grant: GrantId) -> None:
        """Apply one random command, perhaps twice, and compare."""
        command = random_command(rng, self._records.get(grant), self.moment)
        self.steps += 1
        first = self._compared(grant, command)
        if rng.random() < 0.5:
            self.doubled += 1
            once = self._records.get(grant)
            second = self._compared(grant, command)
            assert self._records.get(grant) == once, command
            assert is_equivalent(command, first, second), (command, first, second)

    def apply(self, command: AnyCommand) -> object:
        """Apply one command to a grant of its own, and compare."""
        return self._compared(GRANTS[0], command)

    def live_on(self, rng: Random) -> None:
        """Let some time pass perhaps, and the store restart now and then; then take a step."""
        moment = self.moment
        if rng.random() < 0.25:
            moment = replace(moment, now_ms=moment.now_ms + rng.choice(TIME_STEPS_MS))
        if rng.random() < 0.06:
            moment = replace(moment, run_id=rng.choice(RUNS))
        if rng.random() < 0.01:  # the store's clock is set forward, or back again
            step_ms = FAR_MS if moment.now_ms < START_MS + FAR_MS else -FAR_MS
            moment = replace(moment, now_ms=moment.now_ms + step_ms)
        self.move_to(moment)
        self.step(rng, rng.choice(GRANTS))

    def compare_notices(self) -> None:
        """Compare what peers were told since the last comparison."""
        self._redis.publish(f"{self._prefix}:notices", "the end")
        heard: list[object] = []
        for message in self._heard.listen():
            if message["data"] == b"the end":
                break
            if message["type"] == "message":
                heard.append(json.loads(message["data"]))
        told, self._notices = self._notices, []
        assert heard == told

    def _compared(self, grant: GrantId, command: AnyCommand) -> object:
        before = self._records.get(grant)
        expected, verdict = transitions.apply(before, command, self.moment)

        answered, stored = self._apply_script(grant, command)

        assert answered == verdict, (command, before)
        assert stored == expected, (command, before)
        self._note(grant, command, expected, verdict)
        return verdict

    def _apply_script(self, grant: GrantId, command: AnyCommand) -> tuple[object, object]:
        call = call_of(command)
        channel = f"{self._prefix}:notices"
        arguments = (self._key(grant), channel, grant, *call.arguments)
        with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.evalsha(self._scripts[call.operation].sha, 1, *arguments)
            pipeline.hgetall(self._key(grant))
            reply, fields = pipeline.execute()
        return verdict_of(reply), decode(fields) if fields else None

    def _note(
        self, grant: GrantId, command: AnyCommand, after: GrantRecord | None, verdict: object
    ) -> None:
        before = self._records.pop(grant, None)
        if after is None:
            return
        self._records[grant] = after
        if is_news(command, before, after):
            self._notices.append(
                {
                    "grant": grant,
                    "consent": after.pair.consent.id,
                    "generation": after.pair.generation,
                    "state": after.state.value,
                }
            )
        if before is not None:
            self.reached.update(_landmarks(command, before, after, verdict))
            if _is_repeated_in_quarantine(command, before, self.moment):
                self.reached["mark repeated in a quarantine"] += 1

    def _key(self, grant: GrantId) -> str:
        return f"{self._prefix}:c:{{{grant}}}"


def _is_repeated_in_quarantine(command: AnyCommand, before: GrantRecord, moment: Moment) -> bool:
    return (
        isinstance(command, MarkSending)
        and before.state is GrantState.SENDING
        and (before.claim_id, before.position) == (command.claim_id, command.position)
        and before.run_id == moment.run_id
        and before.quarantine_until_ms > moment.now_ms
    )


def _landmarks(
    command: AnyCommand, before: GrantRecord, after: GrantRecord, verdict: object
) -> Iterator[str]:
    if isinstance(command, Acquire | BeginRevocation | Purge) and _latest(after) < _latest(before):
        yield f"bounded by {type(command).__name__}"
    if isinstance(command, Acquire) and after.overridden_at_ms != before.overridden_at_ms:
        yield "overridden"
    if (
        isinstance(verdict, BackingOff)
        and isinstance(command, Acquire)
        and command.override_every_ms
    ):
        yield "ordered too soon"
    match verdict:
        case Leased(record=GrantRecord(is_probe=True)) if isinstance(command, Acquire):
            yield "probe"
        case Leased() if isinstance(command, AdoptOrphan):
            yield "orphan"
        case Done() if isinstance(command, Settle):
            yield "settled"
            if before.hold_until_ms == before.changed_at_ms:
                yield "settled after a clean denial"
        case Done() if isinstance(command, Release) and before.is_probe:
            yield "a probe given back"
            if command.is_orphan:
                yield "an orphan given back"
        case Committed(was=GrantState.IN_DOUBT | GrantState.REAUTH_REQUIRED):
            yield "healed by a commit"
        case Committed(was=GrantState.LEASED | GrantState.SENDING, is_gap=True):
            yield "gap"
        case _:
            yield type(verdict).__name__
    yield after.state.value


def _latest(record: GrantRecord) -> int:
    return max(
        record.lease_until_ms,
        record.hold_until_ms,
        record.quarantine_until_ms,
        record.not_before_ms,
        record.changed_at_ms,
    )
