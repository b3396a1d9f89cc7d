from __future__ import annotations

from pathlib import Path

import pytest

from tests.proofs.terminations import terminations


@pytest.mark.timeout(300)  # real processes, on machines that may be busy
async def test_terminations_with_claims_in_flight_lose_nothing(tmp_path: Path) -> None:
    """I17: 16, 5 and 10 claims in flight, and each pair is in the store when its process ends."""
    seen = await terminations(tmp_path, rounds=3, idp_latency_s=2.0)

    assert seen.claims == 16 + 5 + 10
    assert (seen.lost, seen.repeated) == (0, 0)
    assert (seen.parked, seen.unclean) == (0, 0)
