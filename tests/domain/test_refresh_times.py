from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sidecar.domain.policy import RefreshPolicy, backoff, grant_jitter, horizon, lead
from sidecar.domain.record import GrantId

LIVES_S = st.floats(min_value=0.0, max_value=604_800.0)
FRACTIONS = st.floats(min_value=0.0, max_value=1.0, exclude_max=True)


@given(life_s=LIVES_S, jitter=FRACTIONS, wanted_s=st.none() | st.floats(1.0, 86_400.0))
def test_no_lead_is_longer_than_half_a_life(
    life_s: float, jitter: float, wanted_s: float | None
) -> None:
    """A token that lives shorter than the lead is not refreshed with every request."""
    chosen_s = lead(life_s=life_s, jitter=jitter, policy=RefreshPolicy(lead_s=wanted_s))

    assert 0.0 <= chosen_s <= life_s / 2


@given(life_ms=st.integers(min_value=1_000, max_value=604_800_000), jitter=FRACTIONS)
def test_a_token_is_due_before_it_ends_and_ends_before_it_expires(
    life_ms: int, jitter: float
) -> None:
    """A refresh ahead has time, and a request with the last token still arrives in time."""
    ends = horizon(expires_at_ms=life_ms, committed_at_ms=0, jitter=jitter, policy=RefreshPolicy())

    assert life_ms / 3 <= ends.refresh_at_ms <= ends.expires_at_ms <= life_ms


def test_a_token_of_a_day_is_refreshed_in_its_last_half_hour() -> None:
    """A fifth of the life, but half an hour at most, and a tenth more by jitter."""
    policy = RefreshPolicy()

    assert lead(life_s=86_400.0, jitter=0.0, policy=policy) == 1800.0
    assert lead(life_s=900.0, jitter=0.0, policy=policy) == 180.0
    assert lead(life_s=200.0, jitter=0.0, policy=policy) == 60.0
    assert 1800.0 < lead(life_s=86_400.0, jitter=0.5, policy=policy) <= 1980.0


def test_a_herd_of_one_expiry_is_spread() -> None:
    """A thousand grants that expire together are due all over the jitter's span."""
    names = [GrantId(f"{number * 4_294_967:08x}{'0' * 24}") for number in range(1000)]
    due_ms = [
        horizon(
            expires_at_ms=86_400_000,
            committed_at_ms=0,
            jitter=grant_jitter(name),
            policy=RefreshPolicy(),
        ).refresh_at_ms
        for name in names
    ]

    assert len(set(due_ms)) == len(names)
    assert max(due_ms) - min(due_ms) > 170_000


@given(failures=st.integers(min_value=0, max_value=10_000), fraction=FRACTIONS)
def test_a_backoff_grows_to_its_limit_and_no_further(failures: int, fraction: float) -> None:
    """However long a failure lasts, the pause lies between half and all of its due."""
    pause_s = backoff(failures=failures, fraction=fraction, first_s=0.2, limit_s=60.0)

    due_s = min(60.0, 0.2 * 2.0 ** min(failures, 30))
    assert due_s / 2 <= pause_s <= due_s
