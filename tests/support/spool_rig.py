"""Opens spools on a disk for tests, and closes each of them at the end.

It must not know what a test is about.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sidecar.adapters.file_spool import FileSpool
from sidecar.adapters.system import SystemEntropy
from sidecar.domain.spooled import SpoolEntry, SpoolState
from tests.support.fake_clock import FakeClock
from tests.support.spool_entries import fold

SMALL_SEGMENT_BYTES: Final = 1024
WRITTEN_AT_S: Final = FakeClock().wall_s


@contextmanager
def opened(root: Path, *, segment_bytes: int = 1 << 16) -> Generator[FileSpool]:
    """Yield a spool below `root` whose clock stands still, and close it."""
    spool = FileSpool.open(
        root, clock=FakeClock(), entropy=SystemEntropy(), segment_bytes=segment_bytes
    )
    try:
        yield spool
    finally:
        spool.close()


def state_of(root: Path) -> SpoolState:
    """Return what a sidecar that starts on `root` finds."""
    with opened(root) as spool:
        return spool.state


def folded(entries: Iterable[SpoolEntry]) -> SpoolState:
    """Return what entries add up to that `opened` wrote."""
    return fold(entries, at_s=WRITTEN_AT_S)


def leave(root: Path, entries: Iterable[SpoolEntry]) -> Path:
    """Leave a directory below `root` as a process does that dies after writing; return it."""
    with opened(root) as spool:
        for entry in entries:
            spool.write(entry, durable=True)
        return directory_of(root, spool)


def directory_of(root: Path, spool: FileSpool) -> Path:
    """Return the directory that `spool` owns."""
    return root / f"replica-{spool.replica_id}"


def segments_of(directory: Path) -> list[Path]:
    """Return the segments of a directory, oldest first."""
    return sorted(directory.glob("segment-*.log"))
