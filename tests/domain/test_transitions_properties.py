"""What holds after every history of commands, however odd."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import cache
from random import Random

from hypothesis import assume, given, settings

from sidecar.domain import transitions
from sidecar.domain.commands import (
    Commit,
    Committed,
    Done,
    Invalidate,
    MarkSending,
    Moment,
    Refused,
    RevokeSuccessor,
    Settle,
)
from sidecar.domain.record import GrantRecord, GrantState, StoredPair
from sidecar.domain.transitions import AnyCommand
from tests.support.equivalence import is_equivalent
from tests.support.random_commands import RUNS, START_MS, TIME_STEPS_MS, random_command
from tests.support.strategies import chances

STEPS = 60
HISTORIES = 600
OFTEN_ENOUGH = 3
ENDING = (GrantState.REVOKING, GrantState.REVOKED)
histories = given(rng=chances)
often = settings(max_examples=150, deadline=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of a random history."""

    before: GrantRecord | None
    command: AnyCommand
    moment: Moment
    after: GrantRecord | None
    verdict: object


def history(rng: Random) -> list[Step]:
    """Return the steps of one random history of one grant."""
    record: GrantRecord | None = None
    moment = Moment(now_ms=START_MS, run_id=RUNS[0])
    steps: list[Step] = []
    for _ in range(STEPS):
        if rng.randrange(4) == 0:
            moment = replace(moment, now_ms=moment.now_ms + rng.choice(TIME_STEPS_MS))
        if rng.randrange(20) == 0:
            moment = replace(moment, run_id=rng.choice(RUNS))
        command = random_command(rng, record, moment)
        after, verdict = transitions.apply(record, command, moment)
        steps.append(
            Step(before=record, command=command, moment=moment, after=after, verdict=verdict)
        )
        record = after
    return steps


@cache
def many_steps() -> tuple[Step, ...]:
    """Return the steps of many histories, the same ones each time, so that rare ones are met."""
    histories = (history(Random(seed)) for seed in range(HISTORIES))  # noqa: S311 - to be replayed
    return tuple(step for steps in histories for step in steps)


def assert_met(met: Counter[str], *cases: str) -> None:
    """Fail if one of the cases was met so seldom that the property says nothing about it."""
    assert {case: met[case] for case in cases if met[case] < OFTEN_ENOUGH} == {}


def test_the_order_of_consent_and_generation_never_decreases() -> None:
    """Within an incarnation no command puts an older pair in the place of a newer one."""
    met: Counter[str] = Counter()

    for step in many_steps():
        if step.before is not None and step.after is not None:
            met["newer"] += step.after.pair.order > step.before.pair.order
            assert step.after.pair.order >= step.before.pair.order

    assert_met(met, "newer")


def test_a_newer_pair_is_never_refused() -> None:
    """Whatever the state, a commit of a newer pair is stored; under a revocation, to be revoked."""
    met: Counter[str] = Counter()

    for step in many_steps():
        if not isinstance(step.command, Commit):
            continue
        ours, stands = step.command.pair, step.before
        if stands is not None and ours.order <= stands.pair.order:
            continue
        assert step.after is not None
        assert step.after.pair == ours
        is_same = stands is not None and stands.pair.consent.id == ours.consent.id
        if is_same and stands is not None and stands.state in ENDING:
            met["to be revoked"] += 1
            assert step.verdict == RevokeSuccessor()
            assert step.after.state is GrantState.REVOKING
        else:
            met["stored"] += 1
            assert isinstance(step.verdict, Committed)
            assert step.after.state is GrantState.ACTIVE

    assert_met(met, "to be revoked", "stored")


@histories
@often
def test_every_command_may_come_twice(rng: Random) -> None:
    """The record is the same afterwards, and the answer means the same to the caller."""
    for step in history(rng):
        again, verdict = transitions.apply(step.after, step.command, step.moment)

        assert again == step.after, step.command
        assert is_equivalent(step.command, step.verdict, verdict), (step, verdict)


def test_only_a_settled_doubt_or_a_client_asks_for_a_new_consent() -> None:
    """Nothing but a settled denial, or a client's word, makes a grant reauth_required."""
    met: Counter[str] = Counter()

    for step in many_steps():
        became = step.after is not None and step.after.state is GrantState.REAUTH_REQUIRED
        was = step.before is not None and step.before.state is GrantState.REAUTH_REQUIRED
        if became and not was and isinstance(step.command, Settle):
            met["settled"] += 1
            assert step.before is not None
            assert step.before.state is GrantState.IN_DOUBT
            assert step.before.hold_until_ms <= step.moment.now_ms
        elif became and not was:
            met["invalidated"] += 1
            assert isinstance(step.command, Invalidate)

    assert_met(met, "settled", "invalidated")


def test_a_revoked_consent_never_becomes_active_again() -> None:
    """Once ordered, a revocation ends a consent for good, unless the tombstone is erased."""
    met: Counter[str] = Counter()

    for step in many_steps():
        if step.before is None or step.after is None or step.before.state not in ENDING:
            continue
        if step.after.pair.consent.id == step.before.pair.consent.id:
            met[step.before.state] += 1
            assert step.after.state in ENDING

    assert_met(met, *ENDING)


def test_no_mark_succeeds_within_a_quarantine() -> None:
    """While spools are replayed no claim leaves any sidecar, not even one that was marked before.

    In a quarantine only a mark that is repeated comes from the claim that stands in the record: a
    lease of before is void.
    """
    met: Counter[str] = Counter()

    for step in many_steps():
        if not isinstance(step.command, MarkSending) or step.before is None:
            continue
        is_its_own = step.before.claim_id == step.command.claim_id
        if step.before.quarantine_until_ms > step.moment.now_ms:
            met["by the very claim"] += is_its_own and step.before.run_id == step.moment.run_id
            assert step.verdict == Refused()
        elif step.verdict == Done():
            met["done"] += 1
            assert step.before.run_id == step.moment.run_id

    assert_met(met, "by the very claim", "done")


def test_a_claim_stands_in_the_record_only_while_it_can_matter() -> None:
    """Owners stand in leased and sending, and in revoking while an answer may come."""
    met: Counter[str] = Counter()

    for step in many_steps():
        if step.after is None:
            continue
        met[step.after.state] += 1
        if step.after.state in {GrantState.LEASED, GrantState.SENDING}:
            assert step.after.claim_id is not None
        elif step.after.state is not GrantState.REVOKING:
            assert step.after.claim_id is None
            # A doubt keeps it: it tells why the token was lost. So does whoever gives a probe back.
            met["doubted probe"] += step.after.is_probe and step.after.state is GrantState.IN_DOUBT
            met["probe given back"] += step.after.is_probe and step.after.state is GrantState.ACTIVE
            keeps = (GrantState.IN_DOUBT, GrantState.ACTIVE)
            assert step.after.state in keeps or not step.after.is_probe

    assert_met(met, "doubted probe", "probe given back", *GrantState)


def test_a_probe_stays_one_until_a_pair_comes_or_the_grant_ends() -> None:
    """No step but those forgets that somebody may still read the answer of an earlier claim."""
    met: Counter[str] = Counter()

    for step in many_steps():
        if step.before is None or step.after is None or not step.before.is_probe:
            continue
        if isinstance(step.command, Commit) or step.after.state.is_dead:
            continue
        assert step.after.is_probe
        was_claimed = step.before.state is not GrantState.ACTIVE
        met["given back"] += was_claimed and step.after.state is GrantState.ACTIVE
        met["taken up"] += not was_claimed and step.after.state is GrantState.LEASED

    assert_met(met, "given back", "taken up")


@given(first=chances, second=chances)
@often
def test_two_spools_replayed_in_any_order_end_alike(first: Random, second: Random) -> None:
    """Whichever replica replays first, the newest pair stands at the end."""
    moment = Moment(now_ms=START_MS, run_id=RUNS[0])
    pairs = [
        step.command.pair
        for step in history(first) + history(second)
        if isinstance(step.command, Commit)
    ]

    forth = _replayed(pairs, moment)
    back = _replayed(pairs[::-1], moment)

    assume(pairs)
    assert forth is not None
    assert back is not None
    assert forth.pair.order == back.pair.order == max(pair.order for pair in pairs)


def _replayed(pairs: list[StoredPair], moment: Moment) -> GrantRecord | None:
    record: GrantRecord | None = None
    for pair in pairs:
        command = Commit(pair=pair, claim_id=None, is_live=False)
        record, _ = transitions.apply(record, command, moment)

    return record
