from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.domain.bulkhead import OTHERS_COUNT_S, BanksServed, SlotLimit, Slots


@pytest.mark.parametrize(
    ("most", "waiting", "of_grant", "of_bank"),
    [
        (1, 1, 1, 1),
        (2, 1, 1, 1),
        (3, 1, 1, 2),
        (4, 2, 1, 3),
        (10, 5, 2, 9),
        (11, 5, 2, 9),
        (100, 50, 25, 90),
        (1000, 500, 250, 900),
    ],
)
def test_each_share_is_a_part_of_the_slots_and_one_at_least(
    most: int, waiting: int, of_grant: int, of_bank: int
) -> None:
    """Half for waits, a quarter for one grant, all but a tenth for one bank; few slots too."""
    slots = Slots(most=most)

    assert (slots.waiting, slots.of_grant, slots.of_bank) == (waiting, of_grant, of_bank)


@given(most=st.integers(2, 10**6))
def test_something_is_kept_for_others_wherever_there_are_two_slots(most: int) -> None:
    """No share is all of the slots, and none is more than it says."""
    slots = Slots(most=most)

    assert slots.waiting * 2 <= most
    assert slots.of_grant <= slots.waiting
    assert most - slots.of_bank >= most / 10


def test_the_limit_that_is_met_is_named() -> None:
    """A grant meets its own limit before that of all waits."""
    slots = Slots(most=100)

    assert slots.refuse_wait(waiting=49, of_grant=24) is None
    assert slots.refuse_wait(waiting=50, of_grant=0) is SlotLimit.WAITING
    assert slots.refuse_wait(waiting=50, of_grant=25) is SlotLimit.GRANT
    assert slots.refuse_bank(of_bank=89, is_only=False) is None
    assert slots.refuse_bank(of_bank=90, is_only=False) is SlotLimit.BANK
    assert slots.refuse_bank(of_bank=99, is_only=True) is None


def test_a_bank_is_the_only_one_until_another_has_a_call_and_again_a_day_later() -> None:
    """What a bank leaves free is for banks that are served, not for ones that once were."""
    nothing = BanksServed()
    one = nothing.after_call("a", 10.0).after_call("a", 20.0)
    two = one.after_call("b", 30.0)
    three = two.after_call("c", 40.0).after_call("c", 50.0)

    assert nothing.is_only("a", 10.0)
    assert (one.is_only("a", 20.0), one.is_only("b", 20.0)) == (True, False)
    assert (two.is_only("a", 30.0), two.is_only("b", 30.0)) == (False, False)
    assert three.is_only("c", 30.0 + OTHERS_COUNT_S) is False
    assert three.is_only("c", 30.1 + OTHERS_COUNT_S) is True
    assert three.is_only("a", 50.0 + OTHERS_COUNT_S) is False
