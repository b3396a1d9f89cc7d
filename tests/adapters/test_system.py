from __future__ import annotations

import time

import pytest

from sidecar.adapters.system import SystemClock, SystemEntropy


def test_elapsed_time_goes_on_through_a_suspend_where_the_machine_can_tell() -> None:
    """On Linux it is the time since boot, sleep included."""
    clock = SystemClock()

    before_s = time.clock_gettime(time.CLOCK_BOOTTIME)
    elapsed_s = clock.elapsed_s()
    after_s = time.clock_gettime(time.CLOCK_BOOTTIME)

    assert before_s <= elapsed_s <= after_s


def test_elapsed_time_never_steps_where_the_machine_cannot_tell_of_its_sleep(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without that clock it is the monotonic one."""
    monkeypatch.delattr(time, "CLOCK_BOOTTIME")
    clock = SystemClock()

    before_s = time.monotonic()
    elapsed_s = clock.elapsed_s()
    after_s = time.monotonic()

    assert before_s <= elapsed_s <= after_s


def test_now_is_the_wall_clock() -> None:
    """Instants are comparable with those of other machines."""
    before_s = time.clock_gettime(time.CLOCK_REALTIME)
    now_s = SystemClock().now_s()
    after_s = time.clock_gettime(time.CLOCK_REALTIME)

    assert before_s <= now_s <= after_s


def test_ids_are_128_bits_in_hex_and_do_not_repeat() -> None:
    """An id has 32 hex digits, and none comes twice."""
    entropy = SystemEntropy()

    ids = [entropy.new_id() for _ in range(1000)]

    assert all(len(bytes.fromhex(new_id)) == 16 and new_id == new_id.lower() for new_id in ids)
    assert len(set(ids)) == 1000


def test_fractions_lie_in_the_half_open_unit_interval_and_differ() -> None:
    """Jitter spreads over the whole of [0, 1)."""
    entropy = SystemEntropy()

    fractions = [entropy.fraction() for _ in range(1000)]

    assert all(0 <= fraction < 1 for fraction in fractions)
    assert min(fractions) < 0.1
    assert max(fractions) > 0.9
