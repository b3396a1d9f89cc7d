from __future__ import annotations

import errno
import os
import shutil
import statistics
import time
from pathlib import Path

import pytest

from sidecar.adapters.file_spool import FileSpool
from sidecar.adapters.system import SystemClock, SystemEntropy
from sidecar.domain.record import ClaimId
from sidecar.ports import SpoolError
from tests.support.fake_clock import FakeClock
from tests.support.spool_entries import (
    GRANT,
    answer,
    confirmed,
    intent,
    pair,
)
from tests.support.spool_rig import (
    SMALL_SEGMENT_BYTES,
    directory_of,
    folded,
    leave,
    opened,
    segments_of,
    state_of,
)
from tests.support.system_calls import SystemCalls, no_space


def test_a_full_disk_is_met_before_a_claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A spool is writable while half a segment is reserved, and writes succeed; then it is not."""
    calls = SystemCalls(monkeypatch)
    with opened(tmp_path, segment_bytes=4096) as spool:
        calls.before = _no_new_blocks
        generation = 0
        while spool.is_writable:
            spool.write(pair(generation), durable=True)
            generation += 1

        assert 2048 < spool.log_bytes < 4096
        assert spool.state == folded([pair(generation - 1)])
        calls.before = lambda _name: None
    assert state_of(tmp_path) == folded([pair(generation - 1)])


def _no_new_blocks(name: str) -> None:
    if name == "posix_fallocate":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_file_system_that_cannot_reserve_is_filled_with_zeros(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where `posix_fallocate` is not to be had, space is taken by writing it."""

    def refuse(_descriptor: int, _offset: int, _length: int) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(os, "posix_fallocate", refuse)

    directory = leave(tmp_path, [pair(5)])

    (segment,) = segments_of(directory)
    assert segment.stat().st_size > 1 << 16
    assert segment.stat().st_blocks * 512 >= segment.stat().st_size
    assert state_of(tmp_path) == folded([pair(5)])


def test_a_dead_log_is_compacted(tmp_path: Path) -> None:
    """However long it runs, a spool takes little more than twice what is alive, and a segment."""
    with opened(tmp_path, segment_bytes=SMALL_SEGMENT_BYTES) as spool:
        for generation in range(500):
            spool.write(pair(generation), durable=False)
            spool.write(confirmed(generation), durable=False)
        directory = directory_of(tmp_path, spool)

        on_disk = sum(path.stat().st_size for path in segments_of(directory))
        assert on_disk < 4 * SMALL_SEGMENT_BYTES
        assert len(segments_of(directory)) <= 3
    assert state_of(tmp_path) == folded([pair(499), confirmed(499)])


def test_a_log_that_is_alive_is_not_compacted(tmp_path: Path) -> None:
    """Nothing is rewritten for a gain of less than half."""
    with opened(tmp_path, segment_bytes=SMALL_SEGMENT_BYTES) as spool:
        first = segments_of(directory_of(tmp_path, spool))[0]
        entries = [intent(ClaimId(f"{number:032x}")) for number in range(100)]
        for entry in entries:
            spool.write(entry, durable=False)

        assert first in segments_of(directory_of(tmp_path, spool))
        assert spool.log_bytes > 4 * SMALL_SEGMENT_BYTES
    assert state_of(tmp_path) == folded(entries)


def test_an_entry_larger_than_a_segment_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The size of segments is no limit for an answer, and its space is reserved like any other."""
    large = answer(sealed=b"x" * 10 * SMALL_SEGMENT_BYTES)

    reserved: list[object] = []
    SystemCalls(monkeypatch).after = lambda name, arguments: (
        reserved.append(arguments[2]) if name == "posix_fallocate" else None
    )

    with opened(tmp_path, segment_bytes=SMALL_SEGMENT_BYTES) as spool:
        spool.write(intent(), durable=False)
        spool.write(large, durable=True)
        spool.write(pair(5), durable=True)

    assert any(isinstance(size, int) and size > 10 * SMALL_SEGMENT_BYTES for size in reserved)
    assert state_of(tmp_path) == folded([intent(), large, pair(5)])


def test_old_segments_that_cannot_be_removed_fail_no_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are worthless, and the next rewriting tries again."""
    calls = SystemCalls(monkeypatch)
    with opened(tmp_path) as spool:
        calls.before = no_space
        with pytest.raises(SpoolError):
            spool.write(pair(5), durable=True)

        calls.before = _no_removal
        spool.write(pair(6), durable=True)
        assert len(segments_of(directory_of(tmp_path, spool))) == 2
        calls.before = lambda _name: None

    assert state_of(tmp_path) == folded([pair(6)])
    assert len(list(tmp_path.glob("*/segment-*"))) == 1


def test_what_was_missed_is_written_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closing is the last attempt to mend the log."""
    calls = SystemCalls(monkeypatch)
    with opened(tmp_path) as spool:
        calls.before = no_space
        with pytest.raises(SpoolError):
            spool.write(pair(5), durable=True)
        calls.before = lambda _name: None

    assert state_of(tmp_path) == folded([pair(5)])


def test_a_full_disk_is_asked_once_a_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether a claim may leave is asked much more often than a disk needs to be tried."""
    clock = FakeClock()
    calls = SystemCalls(monkeypatch)
    spool = FileSpool.open(tmp_path, clock=clock, entropy=SystemEntropy())
    calls.before = no_space
    with pytest.raises(SpoolError):
        spool.write(pair(5), durable=True)

    tried: list[bool] = []
    for _ in range(4):
        count = calls.count
        assert not spool.is_writable
        tried.append(calls.count > count)
        clock.advance(0.5)

    assert tried == [True, False, True, False]
    calls.before = lambda _name: None
    spool.close()


def _no_removal(name: str) -> None:
    if name == "unlink":
        raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_a_spool_that_can_be_read_and_not_written_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk at the start keeps claims back, not the pairs that must reach the store."""
    directory = leave(tmp_path, [pair(5)])
    before = segments_of(directory)[0].read_bytes()
    SystemCalls(monkeypatch).before = no_space

    with opened(tmp_path) as spool:
        assert spool.state == folded([pair(5)])
        assert not spool.is_writable

    assert segments_of(directory)[0].read_bytes() == before


def test_how_long_a_durable_write_takes(tmp_path: Path) -> None:
    """Every durable write is on the disk when it returns; the median is printed, not judged."""
    spans_s: list[float] = []
    spool = FileSpool.open(tmp_path, clock=SystemClock(), entropy=SystemEntropy())
    for generation in range(200):
        assert spool.is_writable
        begun_s = time.perf_counter()
        spool.write(pair(generation, sealed_pair=os.urandom(3000)), durable=True)
        spans_s.append(time.perf_counter() - begun_s)
    shutil.copytree(tmp_path, tmp_path.with_name("copy"))
    spool.close()

    assert state_of(tmp_path.with_name("copy")).pairs[GRANT].pair.generation == 199
    print(  # noqa: T201 - shown by `pytest -s`
        f"\ndurable write of 3 KB: median {statistics.median(spans_s) * 1e6:.0f} us,"
        f" worst {max(spans_s) * 1e6:.0f} us"
    )
