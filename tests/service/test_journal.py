from __future__ import annotations

from sidecar.domain.events import SpoolFailed, SpoolMeasured
from sidecar.domain.spooled import PairReceived
from tests.support.records import pair
from tests.support.sidecar_parts import KEY, Rig, make_rig


def failures(rig: Rig) -> list[str]:
    return [failed.errno_name for failed in rig.parts.observer.of(SpoolFailed)]


async def test_a_full_disk_is_told_where_no_claim_tries_it() -> None:
    """Nobody writes to a spool that is full from the start: the measuring itself has to see it."""
    rig = make_rig()
    journal = rig.parts.claim_parts.journal
    rig.spool.fails = True

    for _ in range(3):
        journal.measure()
    seemed_writable = journal.seems_writable
    rig.spool.fails = False
    journal.measure()

    assert failures(rig) == ["ENOSPC"]
    assert not seemed_writable
    assert journal.seems_writable
    measured = rig.parts.observer.of(SpoolMeasured)
    assert [each.is_writable for each in measured[-4:]] == [False, False, False, True]


async def test_a_fault_that_comes_back_is_told_again() -> None:
    """Once each time it begins, whether a write met it or the measuring."""
    rig = make_rig()
    journal = rig.parts.claim_parts.journal
    received = PairReceived(grant=rig.parts.grant(KEY), claim_id=None, pair=pair())

    for is_full in (True, False, True):
        rig.spool.fails = is_full
        journal.keep(received)
        journal.measure()

    assert failures(rig) == ["ENOSPC", "ENOSPC"]
    assert not journal.seems_writable
