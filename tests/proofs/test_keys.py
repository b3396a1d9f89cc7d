from __future__ import annotations

from pathlib import Path

import pytest

from tests.proofs.keys import WRONG_CONFIGURATION, rotation


@pytest.mark.timeout(300)  # real processes, on machines that may be busy
async def test_a_key_is_replaced_under_load_and_nothing_is_lost_or_seen(tmp_path: Path) -> None:
    """H23, I15: no grant is lost, nothing unopened is asked for, no token lies in the open."""
    seen = await rotation(tmp_path, grants=8, refreshes_each=10)

    assert seen.refreshes >= 40
    assert (seen.lost, seen.repeated) == (0, 0)
    assert (seen.unopened, seen.wrong_exit) == (0, WRONG_CONFIGURATION)
    assert seen.plain == 0
