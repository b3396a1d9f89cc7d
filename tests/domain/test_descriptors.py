from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sidecar.domain.descriptors import (
    CONNECT_MOST,
    CONTROL_MOST,
    METRICS_MOST,
    descriptors_for,
    share_descriptors,
)


@given(
    limit=st.integers(64, 1 << 20),
    max_in_flight=st.integers(1, 1_000_000),
    has_connect=st.booleans(),
)
def test_the_shares_fit_into_the_limit(
    *, limit: int, max_in_flight: int, has_connect: bool
) -> None:
    """All connections at once, each call's to the upstream too, leave some for the process."""
    shares = share_descriptors(limit, max_in_flight=max_in_flight, has_connect=has_connect)
    listeners = (shares.proxy, shares.control, shares.metrics, shares.connect)

    assert sum(listeners) + shares.in_flight <= limit - min(limit // 4, 192)
    assert min(shares.proxy, shares.control, shares.metrics, shares.in_flight) >= 1
    assert (shares.connect > 0) == has_connect
    assert shares.in_flight <= min(max_in_flight, shares.proxy)


@given(st.integers(1, 100_000))
def test_what_a_number_of_calls_needs_suffices(max_in_flight: int) -> None:
    """The limit that an operator is told to set allows the calls that were asked for."""
    limit = descriptors_for(max_in_flight)
    shares = share_descriptors(limit, max_in_flight=max_in_flight, has_connect=True)

    assert shares.in_flight == max_in_flight


def test_a_usual_process_serves_a_thousand_calls_and_a_small_one_some() -> None:
    """1024 descriptors are shared; 20,000 give every listener what it may have at most."""
    small = share_descriptors(1024, max_in_flight=1000, has_connect=True)
    usual = share_descriptors(20_000, max_in_flight=1000, has_connect=False)

    assert (small.metrics, small.control, small.connect) == (32, 64, 64)
    assert (small.proxy, small.in_flight) == (374, 298)
    assert (usual.metrics, usual.control, usual.connect) == (METRICS_MOST, CONTROL_MOST, 0)
    assert (usual.proxy, usual.in_flight) == (4000, 1000)
    assert share_descriptors(20_000, max_in_flight=1, has_connect=True).connect == CONNECT_MOST
