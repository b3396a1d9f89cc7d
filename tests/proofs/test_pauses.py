from __future__ import annotations

from pathlib import Path

import pytest

from tests.proofs.pauses import pauses

ROUNDS = 3


@pytest.mark.timeout(300)  # real processes, on machines that may be busy
async def test_a_process_stopped_for_thrice_every_timer_keeps_the_answer_it_finds(
    tmp_path: Path,
) -> None:
    """H12: whoever goes on reads its socket before it believes a timer, and nobody asks twice."""
    seen = await pauses(tmp_path, rounds=ROUNDS, at_once=ROUNDS)

    assert (seen.kept, seen.presentations) == (ROUNDS, ROUNDS)
