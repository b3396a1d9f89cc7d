from __future__ import annotations

import errno
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from sidecar.domain.spooled import ClaimEnded, RevocationOrdered, SpoolEntry, SpoolState
from sidecar.ports import SpoolError
from tests.support.spool_entries import (
    CLAIM,
    CONSENT,
    GRANT,
    OTHER_CLAIM,
    OTHER_GRANT,
    answer,
    confirmed,
    intent,
    pair,
)
from tests.support.spool_rig import SMALL_SEGMENT_BYTES, folded, leave, opened, state_of
from tests.support.system_calls import Faults, PowerCut, SystemCalls, copy_tree

FORMER: list[SpoolEntry] = [
    intent(OTHER_CLAIM, grant=OTHER_GRANT),
    pair(3, grant=OTHER_GRANT),
    RevocationOrdered(grant=OTHER_GRANT, consent=CONSENT),
]
"""What two dead owners left, between them."""


def _life() -> list[tuple[SpoolEntry, bool]]:
    """Return refreshes as a sidecar writes them, each entry with whether it must be durable."""
    entries: list[tuple[SpoolEntry, bool]] = []
    for generation in range(8):
        entries += [
            (intent(), False),
            (answer(sealed=bytes([generation + 1]) * 50), True),
            (pair(generation, claim_id=CLAIM), True),
            (confirmed(generation), False),
        ]
    return [*entries, (ClaimEnded(grant=GRANT, claim_id=CLAIM), True)]


@dataclass(slots=True, kw_only=True)
class Life:
    """A run of a spool.

    Attributes:
        former: What it finds, in the directories of dead owners.
        attempted: The entries given to `write` so far.
        durable: How many of them a durable write has promised.
        refused: How often `write` raised.
        made_good: How often the last write was taken although an earlier one was refused.
    """

    root: Path
    former: list[SpoolEntry] = field(default_factory=lambda: FORMER)
    attempted: list[SpoolEntry] = field(default_factory=list[SpoolEntry])
    durable: int = 0
    refused: int = 0
    made_good: int = 0

    def prepare(self) -> None:
        """Leave what two dead owners left, between them."""
        with opened(self.root) as first:
            leave(self.root, FORMER[1:])
            first.write(FORMER[0], durable=True)

    def live(self, *, at_end: Callable[[], None] = lambda: None) -> None:
        """Run until the end, with a segment so small that the log is compacted on the way."""
        with opened(self.root, segment_bytes=SMALL_SEGMENT_BYTES) as spool:
            is_refused = False
            for entry, durable in _life():
                self.attempted.append(entry)
                try:
                    spool.write(entry, durable=durable)
                except SpoolError:
                    self.refused += 1
                    is_refused = True
                else:
                    is_refused = False
                    self.durable = len(self.attempted) if durable else self.durable
                assert spool.state == folded([*self.former, *self.attempted])
            if not is_refused:  # whatever failed before is made good
                self.made_good += bool(self.refused)
                assert spool.is_writable
            at_end()

    def possible_states(self) -> list[SpoolState]:
        """Return what a restart may find: each prefix that has what was promised."""
        return [
            folded([*self.former, *self.attempted[:count]])
            for count in range(self.durable, len(self.attempted) + 1)
        ]


def test_a_killed_process_loses_no_durable_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before any of its system calls, a spool is a prefix with all that it promised."""
    life = Life(root=tmp_path / "root")
    life.prepare()
    found: list[tuple[Path, list[SpoolState]]] = []

    def before(_name: str) -> None:
        copy = tmp_path / f"copy-{len(found)}"
        copy_tree(life.root, copy)
        found.append((copy, life.possible_states()))

    calls = SystemCalls(monkeypatch)
    calls.before = before
    life.live()
    calls.before = lambda _name: None

    assert len(found) > 100
    for copy, possible in found:
        for _ in range(2):  # what is found is not lost by finding it
            with opened(copy) as spool:
                assert spool.state in possible
                assert spool.is_writable


@pytest.mark.parametrize("keeps_names", [True, False])
@pytest.mark.parametrize("has_former", [True, False])
def test_a_power_failure_loses_no_durable_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, has_former: bool, keeps_names: bool
) -> None:
    """Even if nothing reaches the disk but what was synced, all that was promised is there."""
    life = Life(root=tmp_path / "disk" / "root", former=FORMER if has_former else [])
    life.root.parent.mkdir()
    if has_former:
        life.prepare()
    found: list[tuple[Path, list[SpoolState]]] = []

    disk = PowerCut(life.root.parent, keeps_names=keeps_names)
    with closing(disk), monkeypatch.context() as patched:

        def after(name: str, arguments: tuple[object, ...]) -> None:
            disk.note(name, arguments)
            copy = tmp_path / f"copy-{len(found)}"
            disk.image(copy)
            found.append((copy / "root", life.possible_states()))

        SystemCalls(patched).after = after
        life.live()

    assert len(found) > 100
    for root, possible in found:
        assert state_of(root) in possible


def _calls_of_a_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    with monkeypatch.context() as patched:
        life = Life(root=tmp_path / "measured")
        life.prepare()
        calls = SystemCalls(patched)
        life.live()
        return calls.count


def _lives_with_faults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, span: int, error_number: int
) -> list[tuple[Life, list[str]]]:
    """Live once for each system call, which then fails, and `span` - 1 after it."""
    lives: list[tuple[Life, list[str]]] = []
    for first in range(_calls_of_a_life(tmp_path, monkeypatch)):
        life = Life(root=tmp_path / f"root-{first}")
        life.prepare()
        faults = Faults(first=first, span=span, error_number=error_number)
        disk = PowerCut(life.root, keeps_names=False)
        with closing(disk), monkeypatch.context() as patched:
            calls = SystemCalls(patched)
            calls.before, calls.after = faults, disk.note
            image = partial(disk.image, tmp_path / f"dark-{first}")
            _start_three_times(life, partial(calls.unwatched, image))
        lives.append((life, faults.hit))
    return lives


def _start_three_times(life: Life, at_end: Callable[[], None]) -> None:
    """Start again where it is the opening that fails, as a supervisor does, and then give up."""
    for _ in range(3):
        try:
            life.live(at_end=at_end)
        except SpoolError:
            continue
        return


@pytest.mark.parametrize("error_number", [errno.ENOSPC, errno.EIO])
def test_a_single_failure_is_made_good_by_the_next_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error_number: int
) -> None:
    """Whichever system call fails once, at the end everything is on the disk, the missed too.

    That holds for a power failure, too, which may take what was not synced after the failure.
    """
    lives = _lives_with_faults(tmp_path, monkeypatch, span=1, error_number=error_number)

    for life, hit in lives:
        dark = life.root.with_name(life.root.name.replace("root", "dark"))
        assert state_of(dark) in life.possible_states()
        assert len(hit) == 1
        assert len(life.attempted) == len(_life())
        assert state_of(life.root) == folded([*FORMER, *life.attempted])
    assert sum(life.made_good for life, _ in lives) > 3
    # Most failures are nobody's business: only a write that is not on the disk says so.
    assert {life.refused for life, _ in lives} == {0, 1}


def test_a_failing_disk_loses_nothing_that_was_durable_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From whichever call on the disk fails for good, all that was promised before is there."""
    lives = _lives_with_faults(tmp_path, monkeypatch, span=10**6, error_number=errno.EIO)

    for life, _ in lives:
        assert state_of(life.root) in life.possible_states()
    assert max(life.refused for life, _ in lives) > 5
