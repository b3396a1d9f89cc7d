from __future__ import annotations

import pytest

from tests.proofs.engines import private_redis
from tests.proofs.herd import herd

CALLERS = 10_000


@pytest.mark.parametrize("sidecars", [1, 4])
async def test_ten_thousand_callers_of_one_expired_grant_cost_one_claim(sidecars: int) -> None:
    """Whatever the herd, one presentation and a handful of questions to the store serve it."""
    with private_redis() as server:
        seen = await herd(
            redis_url=server.unix_url,
            sidecars=sidecars,
            callers=CALLERS // sidecars,
            answer_after_s=1.0,
        )

    assert seen.presentations == 1
    assert seen.served == CALLERS
    assert seen.store_calls <= 200
