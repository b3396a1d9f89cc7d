from __future__ import annotations

import pytest

from tests.proofs.departures import Departures, resets, wrong_replies
from tests.proofs.engines import private_redis

CLIENTS = 60


@pytest.mark.parametrize("is_cancelling", [False, True])
async def test_clients_that_reset_in_the_middle_of_a_refresh_cut_none_short(
    is_cancelling: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """I13 over real connections, whether or not the server cancels the handlers of the gone."""
    with private_redis() as server:
        seen = await resets(redis_url=server.unix_url, clients=CLIENTS, is_cancelling=is_cancelling)

    assert seen == Departures(
        resets=CLIENTS, presentations=CLIENTS, successes=CLIENTS, astray=0, failures=0
    )


async def test_a_cancelled_call_never_gives_its_answer_to_another(
    redis_url: str, redis_prefix: str
) -> None:
    """A connection on which an answer is still to come is not used again."""
    wrong = await wrong_replies(redis_url=redis_url, prefix=redis_prefix, cancels=300)

    assert wrong == 0
