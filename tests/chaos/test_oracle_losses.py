"""The oracle finds every planted loss, and tells which of them nobody could have helped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import pytest

from tests.chaos.evidence import Span, StoreRestart
from tests.chaos.oracle import LossCause
from tests.chaos.planted import ALICE, BOB, Story, holds, life, sent, tag

REFRESHED = sent("t0", tag("a", 10.0), buys="t1")
"""Answered at 10.1."""


def causes(story: Story) -> list[LossCause]:
    return [loss.cause for loss in story.judged().losses]


def test_a_grant_whose_live_token_is_stored_is_held() -> None:
    """Nothing is held against a run in which nothing went wrong."""
    verdict = Story(presentations=(REFRESHED,), live="t1", stored=holds("t1")).judged()

    assert (verdict.claims, verdict.held) == (1, 1)
    assert (verdict.losses, verdict.repeats) == ((), ())


def test_an_answer_that_the_living_lost_is_an_avoidable_loss() -> None:
    """Whoever got an answer and lives on must have stored it."""
    story = Story(presentations=(REFRESHED,), live="t1", stored=holds("t0"))

    assert causes(story) == [LossCause.AVOIDABLE]


def test_a_first_pair_that_is_missing_is_an_avoidable_loss() -> None:
    """A grant that was never refreshed can be lost too."""
    assert causes(Story(live="t0")) == [LossCause.AVOIDABLE]


@pytest.mark.parametrize("state", ["in_doubt", "reauth_required"])
def test_a_live_token_that_is_served_to_nobody_is_an_avoidable_loss(state: str) -> None:
    """An end user who is sent to the bank while the store has the live token has lost it."""
    story = Story(live="t0", stored=holds("t0", state=state))

    assert causes(story) == [LossCause.AVOIDABLE]


def test_a_live_token_left_in_a_spool_is_an_avoidable_loss() -> None:
    """What lies on a disk in the end should have been stored, whoever died."""
    story = Story(
        presentations=(REFRESHED,),
        live="t1",
        stored=holds("t0"),
        lives=(life(ended=10.1),),
        spooled=frozenset({"t1"}),
    )

    assert causes(story) == [LossCause.AVOIDABLE]


def test_an_answer_that_was_dropped_on_purpose_is_nobodys_fault() -> None:
    """The network may eat an answer."""
    dropped = sent("t0", tag("a", 10.0), buys="t1", answer="dropped")
    story = Story(presentations=(dropped,), live="t1", stored=holds("t0"))

    assert causes(story) == [LossCause.ANSWER_DROPPED]


def test_an_answer_to_the_dead_is_nobodys_fault() -> None:
    """A provider may answer a process that was killed before."""
    story = Story(
        presentations=(REFRESHED,), live="t1", stored=holds("t0"), lives=(life(ended=10.05),)
    )

    assert causes(story) == [LossCause.OWNER_KILLED]


def test_a_process_may_die_with_an_answer_in_its_hands() -> None:
    """Fifty milliseconds are what a process has to bring an answer to its disk."""
    story = Story(
        presentations=(REFRESHED,), live="t1", stored=holds("t0"), lives=(life(ended=10.14),)
    )

    assert causes(story) == [LossCause.OWNER_KILLED]


def test_a_process_that_ran_on_after_an_answer_must_have_kept_it() -> None:
    """A death long after an answer explains nothing."""
    story = Story(
        presentations=(REFRESHED,), live="t1", stored=holds("t0"), lives=(life(ended=10.2),)
    )

    assert causes(story) == [LossCause.AVOIDABLE]


def test_a_process_that_was_stopped_had_no_time_to_keep_an_answer() -> None:
    """Time in which a process is stopped does not count."""
    stopped = replace(life(ended=10.9, beats=True), stops=(Span(from_s=10.05, to_s=10.88),))
    story = Story(presentations=(REFRESHED,), live="t1", stored=holds("t0"), lives=(stopped,))

    assert causes(story) == [LossCause.OWNER_KILLED]


def test_a_process_that_waited_for_a_core_had_no_time_to_keep_an_answer() -> None:
    """On a crowded machine a process gets no time although it is not stopped."""
    story = Story(
        presentations=(REFRESHED,),
        live="t1",
        stored=holds("t0"),
        lives=(life(ended=10.9, beats=False),),
    )

    assert causes(story) == [LossCause.OWNER_KILLED]


def test_one_lost_successor_of_two_costs_nothing_if_the_other_is_stored() -> None:
    """A grace window issues two good successors, and one is enough."""
    again = sent("t0", tag("b", 14.0, pid=BOB, kind="probe"), buys="t2", seq=2)
    story = Story(presentations=(REFRESHED, again), live="t2", stored=holds("t1"))

    assert causes(story) == []


DIED_WITH_IT: Final = Story(
    presentations=(REFRESHED,),
    live="t1",
    stored=holds("t0"),
    lives=(life(ended=10.1), life(ALICE + 1, started=11.0)),
    grace_s=10.0,
)
"""The next owner of the spool has read it at 12.0; until 20.05 it could buy another successor."""


def test_a_dead_claim_that_nobody_repeats_in_the_grace_is_an_avoidable_loss() -> None:
    """Whoever finds a dead claim in its spool has to repeat it at once."""
    assert causes(DIED_WITH_IT) == [LossCause.AVOIDABLE]


def test_one_that_starts_in_vain_excuses_no_later_one() -> None:
    """A process that is killed before it serves is followed by one that may serve."""
    lives = (
        life(ended=10.1),
        life(ALICE + 1, started=10.2, ended=10.9),
        life(ALICE + 2, started=11.0),
    )

    assert causes(replace(DIED_WITH_IT, lives=lives)) == [LossCause.AVOIDABLE]


def test_without_grace_a_dead_claim_need_not_be_repeated() -> None:
    """A provider may take so long that a successor of the dead owner has long been there."""
    slow = replace(REFRESHED, decided_s=15.0, answered_s=15.0)
    story = replace(DIED_WITH_IT, presentations=(slow,), grace_s=0.0)

    assert causes(story) == [LossCause.OWNER_KILLED]


@pytest.mark.parametrize(
    "trouble",
    [
        {"grace_s": 2.5},
        {"lives": (life(ended=10.1), life(ALICE + 1, started=11.0, ended=12.5))},
        {"holes": {"alice": (Span(from_s=12.5, to_s=19.5),)}},
        {"restarts": (StoreRestart(down_s=12.5, up_s=12.6, forgets=False),)},
    ],
    ids=["the grace is over", "it is killed too", "it is cut off", "the store is restarted"],
)
def test_a_dead_claim_may_be_past_repeating(trouble: Mapping[str, Any]) -> None:
    """A second of undisturbed time is what the next owner has to repeat it."""
    assert causes(replace(DIED_WITH_IT, **trouble)) == [LossCause.OWNER_KILLED]


def test_a_dead_claim_that_was_repeated_may_be_lost_again() -> None:
    """The owner of the repetition may die with what it bought, as the first did."""
    again = sent("t0", tag("b", 12.5, pid=ALICE + 1, kind="orphan"), buys="t2", seq=2)
    lives = (life(ended=10.1), life(ALICE + 1, started=11.0, ended=12.6))
    story = replace(DIED_WITH_IT, presentations=(REFRESHED, again), live="t2", lives=lives)

    assert causes(story) == [LossCause.OWNER_KILLED]


def test_a_dead_claim_that_was_repeated_too_late_is_an_avoidable_loss() -> None:
    """To let the grace run down and then to die is no excuse."""
    again = sent("t0", tag("b", 19.0, pid=ALICE + 1, kind="orphan"), buys="t2", seq=2)
    lives = (life(ended=10.1), life(ALICE + 1, started=11.0, ended=19.1))
    story = replace(DIED_WITH_IT, presentations=(REFRESHED, again), live="t2", lives=lives)

    assert causes(story) == [LossCause.AVOIDABLE]


def test_a_dead_claim_that_is_decided_after_its_repetition_costs_nothing() -> None:
    """A slow provider may give the dead their answer last."""
    last = replace(REFRESHED, seq=2, decided_s=15.0, answered_s=15.0)
    repeated = sent("t0", tag("b", 12.5, pid=ALICE + 1, kind="orphan"), buys="t2", seq=1)
    first = replace(repeated, answered_s=14.5)
    lives = (life(ended=10.1), life(ALICE + 1, started=11.0, ended=14.51))
    story = replace(DIED_WITH_IT, presentations=(first, last), live="t2", lives=lives)

    assert causes(story) == [LossCause.OWNER_KILLED]


def test_a_living_family_that_was_ended_by_a_second_use_is_an_avoidable_loss() -> None:
    """Whoever presents a used token while its successor is well costs the end user the grant."""
    again = replace(sent("t0", tag("b", 11.0, pid=BOB), seq=2), outcome="family_revoked")
    story = Story(presentations=(REFRESHED, again), live="t1", stored=holds("t1"), ended="reuse")

    assert causes(story) == [LossCause.AVOIDABLE]


def test_a_family_whose_successor_was_lost_before_is_lost_for_that_reason() -> None:
    """Ending a family that nobody could use any more costs nothing."""
    again = replace(
        sent("t0", tag("b", 14.0, pid=BOB, kind="probe"), seq=2), outcome="family_revoked"
    )
    story = Story(
        presentations=(REFRESHED, again),
        live="t1",
        stored=holds("t0"),
        ended="reuse",
        lives=(life(ended=10.05), life(BOB)),
    )

    assert causes(story) == [LossCause.OWNER_KILLED]


def test_a_claim_of_the_dead_may_end_a_family() -> None:
    """A provider may take up a request after its sender died and its successor won the race."""
    late = replace(sent("t0", tag("a", 10.0), seq=2), outcome="family_revoked", decided_s=12.0)
    won = sent("t0", tag("b", 11.5, pid=ALICE + 1, kind="orphan"), buys="t1")
    story = Story(
        presentations=(won, late),
        live="t1",
        stored=holds("t1"),
        ended="reuse",
        lives=(life(ended=10.5), life(ALICE + 1, started=10.6)),
    )

    assert causes(story) == [LossCause.DEAD_CLAIM]
