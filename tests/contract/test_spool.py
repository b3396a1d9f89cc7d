from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sidecar.adapters.file_spool import FileSpool
from sidecar.adapters.memory_spool import MemorySpool
from sidecar.adapters.system import SystemEntropy
from sidecar.domain.spooled import ClaimEnded, RevocationOrdered, RevocationSettled, SpoolEntry
from sidecar.ports import Spool, SpoolError
from tests.support.fake_clock import FakeClock
from tests.support.spool_entries import (
    CLAIM,
    CONSENT,
    GRANT,
    OTHER_GRANT,
    answer,
    confirmed,
    fold,
    forgotten,
    intent,
    pair,
)
from tests.support.system_calls import SystemCalls, no_space


@dataclass(frozen=True, slots=True, kw_only=True)
class Rig:
    """A spool, its clock, and a way to break and to mend its disk."""

    spool: Spool
    clock: FakeClock
    set_full: Callable[[bool], None]

    def is_writable(self) -> bool:
        """Ask the spool anew."""
        return self.spool.is_writable


def _memory_rig() -> Rig:
    clock = FakeClock()
    spool = MemorySpool(clock=clock)

    def set_full(is_full: bool) -> None:  # noqa: FBT001 - on or off is all there is
        spool.fails = is_full

    return Rig(spool=spool, clock=clock, set_full=set_full)


def _file_rig(root: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    clock = FakeClock()
    calls = SystemCalls(monkeypatch)
    spool = FileSpool.open(root, clock=clock, entropy=SystemEntropy(), segment_bytes=4096)

    def set_full(is_full: bool) -> None:  # noqa: FBT001 - on or off is all there is
        calls.before = no_space if is_full else lambda _name: None

    return Rig(spool=spool, clock=clock, set_full=set_full)


@pytest.fixture(params=["memory", "file"])
def rig(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Rig]:
    made = _memory_rig() if request.param == "memory" else _file_rig(tmp_path / "s", monkeypatch)
    yield made
    made.spool.close()


def test_a_new_spool_is_empty_and_writable(rig: Rig) -> None:
    """Nothing lies in it, nothing is parked, and a claim may leave."""
    assert rig.spool.state == fold([])
    assert rig.spool.parked_since_s == 0.0
    assert rig.is_writable()


@pytest.mark.parametrize("durable", [True, False])
def test_the_state_is_the_fold_of_what_was_written(rig: Rig, *, durable: bool) -> None:
    """Each entry is in the state as soon as it is written, durably or not."""
    entries: list[SpoolEntry] = [
        intent(),
        answer(),
        pair(5, claim_id=CLAIM),
        confirmed(5),
        pair(3, grant=OTHER_GRANT),
        RevocationOrdered(grant=GRANT, consent=CONSENT),
        RevocationSettled(grant=GRANT, consent=CONSENT),
        forgotten(5),
        ClaimEnded(grant=GRANT, claim_id=CLAIM),
    ]

    for count, entry in enumerate(entries, start=1):
        rig.spool.write(entry, durable=durable)

        assert rig.spool.state == fold(entries[:count], at_s=rig.clock.now_s())


def test_the_oldest_parked_pair_tells_since_when(rig: Rig) -> None:
    """The instant is the wall clock's, of the write of the oldest pair that is unconfirmed."""
    first_s = rig.clock.now_s()
    rig.spool.write(pair(5), durable=True)
    rig.clock.advance(7)
    rig.spool.write(pair(5, grant=OTHER_GRANT), durable=True)
    assert rig.spool.parked_since_s == first_s

    rig.spool.write(confirmed(5), durable=False)
    assert rig.spool.parked_since_s == first_s + 7

    rig.spool.write(confirmed(5, grant=OTHER_GRANT), durable=False)
    assert rig.spool.parked_since_s == 0.0


@pytest.mark.parametrize("durable", [True, False])
def test_a_failed_write_raises_and_folds_all_the_same(rig: Rig, *, durable: bool) -> None:
    """A pair that cannot be kept must still reach the store from memory."""
    rig.set_full(True)

    with pytest.raises(SpoolError) as caught:
        rig.spool.write(pair(5), durable=durable)

    assert caught.value.errno_name == "ENOSPC"
    assert rig.spool.state == fold([pair(5)], at_s=rig.clock.now_s())
    assert not rig.is_writable()


def test_a_mended_spool_is_writable_again_by_itself(rig: Rig) -> None:
    """No claim must leave before, and none must be needed to find out."""
    rig.set_full(True)
    with pytest.raises(SpoolError):
        rig.spool.write(pair(5), durable=True)
    assert not rig.is_writable()
    rig.set_full(False)

    rig.clock.advance(1)

    assert rig.is_writable()
    rig.spool.write(pair(6), durable=True)
    assert rig.spool.state == fold([pair(6)], at_s=rig.clock.now_s())


def test_a_mended_spool_takes_the_next_write(rig: Rig) -> None:
    """A write need not wait until somebody asks whether it would succeed."""
    rig.set_full(True)
    with pytest.raises(SpoolError):
        rig.spool.write(pair(5), durable=True)
    assert not rig.is_writable()
    rig.set_full(False)

    rig.spool.write(pair(6), durable=True)

    assert rig.is_writable()


def test_a_closed_spool_takes_nothing_any_more(rig: Rig) -> None:
    """Closing twice is no harm; writing afterwards is an error, and the state has it."""
    rig.spool.close()
    rig.spool.close()

    with pytest.raises(SpoolError) as caught:
        rig.spool.write(pair(5), durable=True)

    assert caught.value.errno_name == "EBADF"
    assert rig.spool.state.parked == {GRANT}
    assert not rig.is_writable()
