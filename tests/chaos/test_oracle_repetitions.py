"""The oracle finds every presentation without a right, and believes no tag that it cannot check."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.chaos.evidence import ClaimTag, Presentation, Span, StoreRestart
from tests.chaos.oracle import RepeatCause
from tests.chaos.planted import ALICE, BOB, Story, holds, life, sent, tag

WON = sent("t0", tag("a", 10.0), buys="t1")
"""By Alice, answered at 10.1."""

UNPROCESSED = replace(sent("t0", tag("a", 10.0)), outcome="error", status=503)
RESET = replace(sent("t0", tag("a", 10.0)), outcome="dropped", answer="dropped", status=None)


def causes(story: Story) -> list[RepeatCause]:
    return [each.cause for each in story.judged().repeats]


def then(at: float, *, pid: int = BOB, kind: str = "first", claim: str = "b") -> Presentation:
    """Somebody presents the first token again."""
    return sent("t0", tag(claim, at, pid=pid, kind=kind), seq=2)


def test_a_second_owner_without_a_right_is_unexplained() -> None:
    """Two claims on one token at once are what all this is about."""
    story = Story(presentations=(WON, then(10.05)), live="t1", stored=holds("t1"))

    (repeat,) = story.judged().unexplained
    assert repeat.is_stale
    assert "process 100" in repeat.detail


def test_a_presentation_without_a_tag_is_unexplained() -> None:
    """Who is not known to have had a right had none."""
    nameless = replace(then(20.0), tag=None)

    assert causes(Story(presentations=(WON, nameless))) == [RepeatCause.UNEXPLAINED]


@pytest.mark.parametrize("former", [UNPROCESSED, RESET])
def test_an_owner_may_ask_again_after_no_whole_answer(former: Presentation) -> None:
    """Nobody else can have what a reset or a 5xx withheld."""
    again = then(10.3, pid=ALICE, claim="a")

    assert causes(Story(presentations=(former, again))) == [RepeatCause.OWNER_RETRY]


def test_an_owner_may_not_ask_again_after_an_answer() -> None:
    """A refusal, or a pair, is the end of a claim."""
    again = then(10.3, pid=ALICE, claim="a")

    assert causes(Story(presentations=(WON, again))) == [RepeatCause.UNEXPLAINED]


def test_anybody_may_present_what_a_claim_that_is_over_did_not_spend() -> None:
    """After a claim that ended in a 503 the token is as good as before."""
    story = Story(presentations=(UNPROCESSED, then(10.2)))

    assert causes(story) == [RepeatCause.RELEASED]
    assert story.judged().stale == 0


def test_nobody_may_present_what_a_running_claim_holds() -> None:
    """A claim that has not had its answer is not over."""
    assert causes(Story(presentations=(UNPROCESSED, then(10.05)))) == [RepeatCause.UNEXPLAINED]


def test_a_claim_between_two_tries_is_not_over() -> None:
    """A claim that presents again later was running all the time."""
    third = replace(UNPROCESSED, seq=3, tag=replace(tag("a", 10.5), attempt=2), answered_s=10.6)
    story = Story(presentations=(UNPROCESSED, then(10.2), third))

    assert RepeatCause.UNEXPLAINED in causes(story)


def test_a_restart_may_repeat_what_its_dead_process_left() -> None:
    """The lock on its spool proves that the owner is dead, and the spool that it kept nothing."""
    story = Story(
        presentations=(WON, then(12.0, pid=ALICE + 1, kind="orphan")),
        lives=(life(ended=10.05), life(ALICE + 1, started=11.0), life(BOB)),
    )

    assert causes(story) == [RepeatCause.AFTER_LOSS]


def test_an_orphan_of_the_living_is_unexplained() -> None:
    """A tag that says orphan is not believed while the owner lives."""
    story = Story(presentations=(WON, then(12.0, pid=ALICE + 1, kind="orphan")))

    assert causes(story) == [RepeatCause.UNEXPLAINED]


def test_an_orphan_whose_answer_still_comes_is_explained_by_the_death() -> None:
    """A request of the dead may be taken up after its repetition, and may lose that race."""
    late = replace(sent("t0", tag("a", 10.0), seq=2), decided_s=13.0, answered_s=13.1)
    won = sent("t0", tag("b", 12.0, pid=ALICE + 1, kind="orphan"), buys="t1")
    story = Story(
        presentations=(won, late),
        lives=(life(ended=10.05), life(ALICE + 1, started=11.0)),
    )

    assert causes(story) == [RepeatCause.ORPHAN]


def test_a_probe_past_the_hold_is_explained() -> None:
    """Strangers may ask once the hold of the owner is over."""
    story = Story(presentations=(WON, then(13.0, kind="probe")))

    assert causes(story) == [RepeatCause.PROBE]
    assert story.judged().stale == 1


@pytest.mark.parametrize(("at", "kind"), [(12.9, "probe"), (13.0, "first"), (13.0, "orphan")])
def test_a_probe_within_the_hold_is_unexplained(at: float, kind: str) -> None:
    """Neither a tag alone nor time alone is a right."""
    story = Story(presentations=(WON, then(at, kind=kind)))

    assert causes(story) == [RepeatCause.UNEXPLAINED]


@pytest.mark.parametrize(
    ("at", "cause"), [(12.9, RepeatCause.UNEXPLAINED), (13.0, RepeatCause.PROBE)]
)
def test_who_repeats_a_dead_probe_has_the_right_of_the_probe(at: float, cause: RepeatCause) -> None:
    """The heir of a spool finds a probe there, whose token the living may have spent."""
    lives = (life(ALICE), life(BOB, ended=11.0), life(BOB + 1, started=11.1))
    story = Story(presentations=(WON, then(at, pid=BOB + 1, kind="orphan")), lives=lives)

    assert causes(story) == [cause]


def test_a_probe_of_what_the_own_spool_has_is_unexplained() -> None:
    """No sidecar presents a generation while its own spool has a later one."""
    story = Story(
        presentations=(WON, then(14.0, pid=ALICE, kind="probe")), spool_times={"a": 10.11}
    )

    assert causes(story) == [RepeatCause.UNEXPLAINED]


def test_whatever_follows_a_loss_is_explained_by_it() -> None:
    """What nobody holds, nobody can lose any more."""
    dropped = sent("t0", tag("a", 10.0), buys="t1", answer="dropped")

    assert causes(Story(presentations=(dropped, then(10.5)))) == [RepeatCause.AFTER_LOSS]


@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize(
    ("answer", "cause"),
    [("dropped", RepeatCause.AFTER_LOSS), ("sent", RepeatCause.UNEXPLAINED)],
)
def test_a_claim_is_over_whose_presentations_bought_nothing_that_lasts(
    answer: str, cause: RepeatCause, *, is_first: bool
) -> None:
    """Of two presentations one bought a successor; whether anybody can hold it decides."""
    first, second = tag("a", 10.0), replace(tag("a", 10.2), attempt=2)
    bought = sent("t0", first if is_first else second, buys="t1", answer=answer, seq=1)
    failed = replace(UNPROCESSED, tag=second if is_first else first, seq=2, answered_s=10.3)
    story = Story(presentations=(bought, failed, then(20.0)))

    assert causes(story)[-1] is cause


ROLLBACK = StoreRestart(down_s=11.0, up_s=11.2, forgets=True)


def test_a_rollback_with_its_holder_away_is_explained() -> None:
    """A store that forgot and a holder that cannot say so leave nothing but to ask."""
    away = replace(life(ALICE), stops=(Span(from_s=10.9, to_s=20.0),))
    story = Story(presentations=(WON, then(13.5)), lives=(away, life(BOB)), restarts=(ROLLBACK,))

    assert causes(story) == [RepeatCause.ROLLBACK]


def test_a_rollback_with_its_holder_cut_off_is_explained() -> None:
    """A holder that cannot reach the store is as good as away."""
    story = Story(
        presentations=(WON, then(13.5)),
        restarts=(ROLLBACK,),
        holes={"alice": (Span(from_s=10.9, to_s=13.4),)},
    )

    assert causes(story) == [RepeatCause.ROLLBACK]


@pytest.mark.parametrize(
    ("at", "restarts"),
    [
        pytest.param(13.5, (ROLLBACK,), id="the holder was there"),
        pytest.param(13.0, (ROLLBACK,), id="within the quarantine"),
        pytest.param(13.5, (replace(ROLLBACK, forgets=False),), id="nothing was forgotten"),
        pytest.param(13.5, (replace(ROLLBACK, down_s=9.0, up_s=9.2),), id="before the claim"),
    ],
)
def test_a_rollback_alone_is_no_right(at: float, restarts: tuple[StoreRestart, ...]) -> None:
    """A holder that could have replayed its spool must have been waited for."""
    assert causes(Story(presentations=(WON, then(at)), restarts=restarts)) == [
        RepeatCause.UNEXPLAINED
    ]


def test_each_earlier_presentation_must_allow_the_next() -> None:
    """A right against one earlier claim is none against another."""
    other = replace(sent("t0", tag("c", 12.9, pid=BOB), buys=None, seq=2), answered_s=99.0)
    third = sent("t0", tag("d", 13.5, pid=ALICE, kind="probe"), seq=3)
    story = Story(presentations=(UNPROCESSED, other, third))

    assert causes(story) == [RepeatCause.RELEASED, RepeatCause.UNEXPLAINED]


def test_a_tag_survives_its_header() -> None:
    """What a process writes into the header is what the oracle reads."""
    written = ClaimTag(pid=7, claim_id="c" * 32, kind="probe", attempt=3, began_s=1700000000.125)

    assert ClaimTag.parse(str(written)) == written
    assert ClaimTag.parse("of-a-person") is None
    assert ClaimTag.parse(None) is None
