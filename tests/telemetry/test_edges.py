from __future__ import annotations

from typing import Final

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from sidecar.domain import events as ev
from sidecar.domain.connection_table import ListenerName
from sidecar.domain.failure import Operation
from sidecar.domain.resources import NeededAt, Resource
from sidecar.telemetry.edges import QUIET_S, Edges, LeftOut, Whose
from sidecar.telemetry.lines import LINES, lasting
from sidecar.telemetry.logging import REPORT_EVERY_S, Level
from tests.support.sample_events import FAILURE, sample
from tests.support.telemetry_rig import Rig

ONE: Final = Whose("record.quarantined", ("g-1",))
OTHER: Final = Whose("record.quarantined", ("g-2",))


COUNTED: Final = (
    ev.ClaimSlowed,
    ev.ClaimVetoed,
    ev.RecordQuarantined,
    ev.RecordUnreadable,
    ev.ResourceExhausted,
    ev.RetryWithheld,
    ev.TokenRequestFailed,
    ev.WorkFailed,
)


def test_a_state_is_written_once_and_again_when_it_changes_with_a_count() -> None:
    """One line for each grant and quarantine; the next one says how many were left out."""
    edges = Edges()

    seen = [edges.see(ONE, "epoch 1", now_s) for now_s in range(85)]
    seen.append(edges.see(ONE, "epoch 2", 85))

    assert seen == [0, *[None] * 84, 84]


def test_the_state_of_one_grant_hides_no_other() -> None:
    """Each grant has a line of its own."""
    edges = Edges()

    assert [edges.see(whose, "epoch 1", 0) for whose in (ONE, OTHER, ONE)] == [0, 0, None]


def test_a_state_that_is_over_begins_with_a_line_and_its_count_is_reported() -> None:
    """A grant that fails again after a success is told again at once."""
    edges = Edges()
    for now_s in range(5):
        edges.see(ONE, "a", now_s)

    edges.end(ONE)

    assert edges.report(6) == {"record.quarantined": LeftOut(states=1, lines=4)}
    assert edges.report(7) == {}
    assert edges.see(ONE, "a", 8) == 0


def test_a_state_that_was_quiet_for_long_is_over() -> None:
    """What nobody ends ends by itself: an incident of next week has its line."""
    edges = Edges()
    edges.see(ONE, "a", 0)
    edges.see(ONE, "a", 10)
    edges.see(OTHER, "a", QUIET_S + 5)

    assert edges.report(QUIET_S + 9) == {}
    assert edges.report(QUIET_S + 10) == {"record.quarantined": LeftOut(states=1, lines=1)}
    assert edges.see(ONE, "a", QUIET_S + 11) == 0
    assert edges.see(OTHER, "a", QUIET_S + 11) is None


def test_a_state_that_lasts_is_not_over_however_long() -> None:
    """The line of a state that is told at each beat comes once, not once in half an hour."""
    edges = Edges()

    seen = [edges.see(ONE, "a", now_s) for now_s in range(0, 10 * int(QUIET_S), 600)]

    assert seen == [0, *[None] * (len(seen) - 1)]


def test_memory_is_bounded_and_the_quietest_state_makes_room() -> None:
    """A hundred thousand grants in trouble take no more memory than eight thousand."""
    edges = Edges(most_states=2)
    edges.see(ONE, "a", 0)
    edges.see(OTHER, "a", 1)
    edges.see(ONE, "a", 2)

    edges.see(Whose("x", ()), "a", 3)

    assert edges.see(ONE, "a", 4) is None
    assert edges.see(OTHER, "a", 5) == 0
    assert edges.report(6) == {}


lines_told = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 1), st.integers(0, 1200)), max_size=60
)


@given(told=lines_told)
def test_every_line_is_written_or_counted_as_left_out(told: list[tuple[int, int, int]]) -> None:
    """Lines written and lines reported as left out add up to what was told."""
    edges = Edges(most_states=3)
    now_s = written = left_out = 0

    for whose, state, later_s in told:
        now_s += later_s
        seen = edges.see(Whose("x", (whose,)), state, now_s)
        written += seen is not None
        left_out += seen or 0
        left_out += sum(over.lines for over in edges.report(now_s).values())
        event(f"left out: {seen is None}")
    left_out += sum(over.lines for over in edges.report(now_s, is_last=True).values())

    assert written + left_out == len(told)


def test_the_reference_says_which_events_are_written_once() -> None:
    """The column of the reference and the rule that is followed are about the same events."""
    for kind, line in LINES.items():
        assert (lasting(sample(kind)) is not None) == bool(line.once), kind


@pytest.mark.parametrize("kind", [kind for kind, line in LINES.items() if line.once])
def test_an_event_of_a_lasting_state_is_one_line_and_every_count(kind: type[ev.Event]) -> None:
    """At each poll it is counted; only at its edges it is written."""
    once, many = Rig(), Rig()
    told = sample(kind)
    before = many.all_samples()

    once.observer.observe(told)
    for _ in range(3):
        many.observer.observe(told)

    counted = {
        name: value for name, value in many.all_samples().items() if value != before.get(name, 0)
    }
    assert len(many.lines()) == len(once.lines()) == 1
    assert all(value == 3 * once.all_samples()[name] for name, value in counted.items())
    assert bool(counted) is (kind in COUNTED)


def test_two_hundred_grants_in_a_quarantine_are_two_hundred_lines() -> None:
    """K14: Redis restarts, and each grant is asked for 84 times before claims go on."""
    rig = Rig()

    for epoch in (1000, 2000):
        for poll in range(84):
            for grant in range(200):
                rig.observer.observe(
                    sample(
                        ev.RecordQuarantined,
                        grant=f"g-{grant}",
                        until_ms=epoch,
                        wait_s=60.0 - poll / 2,
                    )
                )

    lines = rig.lines()
    assert [line["event"] for line in lines] == ["record.quarantined"] * 400
    assert all("repeated" not in line for line in lines[:200])
    assert [line["repeated"] for line in lines[200:]] == [83] * 200
    assert rig.value("sidecar_quarantines_total") == 2 * 84 * 200


def test_each_shortage_and_each_full_listener_has_a_line_of_its_own() -> None:
    """A lack of descriptors hides no lack of memory, and one full listener no other one."""
    rig = Rig()
    told: list[ev.Event] = [
        *(
            ev.ResourceExhausted(resource=resource, where=where)
            for resource in Resource
            for where in NeededAt
        ),
        *(ev.ListenerFilled(listener=listener, limit=1) for listener in ListenerName),
    ]

    for each in told * 3:
        rig.observer.observe(each)

    assert len(rig.lines()) == len(told)
    for resource in Resource:
        for where in NeededAt:
            labels = {"resource": resource, "where": where}
            assert rig.value("sidecar_resource_exhausted_total", **labels) == 3


def test_a_refresh_ends_the_troubles_of_its_grant_and_of_no_other() -> None:
    """A failure after a success is a new one, whatever level is logged."""
    rig = Rig(least=Level.WARNING)
    for grant in ("g-1", "g-2"):
        rig.observer.observe(sample(ev.TokenRequestFailed, grant=grant))

    rig.observer.observe(sample(ev.TokenRefreshed, grant="g-1"))
    for grant in ("g-1", "g-2"):
        rig.observer.observe(sample(ev.TokenRequestFailed, grant=grant))

    assert [line["grant"] for line in rig.lines()] == ["g-1", "g-2", "g-1"]


def test_each_exchange_that_fails_has_its_line() -> None:
    """A person who tries again is another event, not the same state."""
    rig = Rig()
    exchange = FAILURE.__class__(
        operation=Operation.OBTAIN,
        reason=FAILURE.reason,
        akoya_status=400,
        akoya_error="invalid_request",
        disposition=FAILURE.disposition,
    )

    for _ in range(2):
        rig.observer.observe(sample(ev.TokenRequestFailed, failure=exchange))

    assert len(rig.lines()) == 2


def test_what_was_left_out_of_states_that_are_over_is_told_in_one_line() -> None:
    """After an outage one line says how many there were, and not one for each grant."""
    rig = Rig()
    for _ in range(3):
        for grant in ("g-1", "g-2"):
            rig.observer.observe(sample(ev.RecordQuarantined, grant=grant))
    for grant in ("g-1", "g-2"):
        rig.observer.observe(sample(ev.TokenRefreshed, grant=grant))

    rig.elapsed_s = REPORT_EVERY_S
    rig.observer.observe(sample(ev.StoreRestored))

    told = [line for line in rig.lines() if line["event"] == "log.lines_repeated"]
    assert [(line["of"], line["states"], line["lines"]) for line in told] == [
        ("record.quarantined", 2, 4)
    ]
