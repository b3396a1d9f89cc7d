from __future__ import annotations

import pytest

from sidecar.domain.events import Resource, ResourceExhausted
from sidecar.service.shortages import SPELL_ENDS_AFTER_S, Shortages
from tests.support.fake_clock import FakeClock
from tests.support.proxy_rig import RecordingObserver

DESCRIPTORS = Resource.DESCRIPTORS


@pytest.mark.parametrize(
    ("pauses_s", "expected"),
    [
        ([], [True]),
        ([0.0, 1.0, 59.0], [True, False, False, False]),
        ([59.9] * 4, [True, False, False, False, False]),
        ([SPELL_ENDS_AFTER_S], [True, True]),
        ([1.0, SPELL_ENDS_AFTER_S, 1.0], [True, False, True, False]),
    ],
)
def test_a_shortage_is_counted_each_time_and_told_once_a_spell(
    pauses_s: list[float], expected: list[bool]
) -> None:
    """Every failure is an event, but only the first for a while is new."""
    observer, clock = RecordingObserver(), FakeClock()
    shortages = Shortages(observer=observer, clock=clock)

    shortages.note(DESCRIPTORS)
    for pause_s in pauses_s:
        clock.advance(pause_s)
        shortages.note(DESCRIPTORS)

    assert [event.is_new for event in observer.of(ResourceExhausted)] == expected


def test_each_resource_has_spells_of_its_own() -> None:
    """A lack of descriptors does not hide a lack of memory."""
    observer = RecordingObserver()
    shortages = Shortages(observer=observer, clock=FakeClock())

    for resource in (DESCRIPTORS, Resource.MEMORY, DESCRIPTORS):
        shortages.note(resource)

    assert [(event.resource, event.is_new) for event in observer.of(ResourceExhausted)] == [
        (DESCRIPTORS, True),
        (Resource.MEMORY, True),
        (DESCRIPTORS, False),
    ]
