"""The log of one replica: segments in a row, read at the start, appended to afterwards.

A log is *sound* while everything it was given is in it. After a failed write it is not, and nothing
is appended any more until `rewrite` has put the whole live state into a new segment, a snapshot:
the failed segment cannot be trusted (see `sidecar.adapters.spool_segments`), and what was missed
meanwhile is in the state. A snapshot makes every earlier segment worthless; who owns the directory
may then drop those.

It must not know what entries mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from sidecar.adapters.spool_codec import SegmentContents, read_segment
from sidecar.adapters.spool_directory import ReplicaDirectory, sync_directory
from sidecar.adapters.spool_segments import Segment
from sidecar.domain.spooled import SpoolEntry

_UNKNOWN_BYTES: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class LogContents:
    """What the segments of a directory hold.

    Attributes:
        entries: Each entry with the instant it was written (wall clock), in order.
        damaged: Segments with bytes that cannot be read.
        unreadable_bytes: How many those are; a last write that was cut short is none of them.
    """

    entries: Sequence[tuple[SpoolEntry, float]]
    damaged: frozenset[Path]
    unreadable_bytes: int


def read_log(directory: ReplicaDirectory) -> LogContents:
    """Return what can be read of a directory, from the last whole snapshot on.

    Raises:
        OSError: The directory cannot be listed. A segment that cannot be read counts as damaged.
    """
    segments = [(path, _read(path)) for _, path in directory.segments()]
    snapshots = [place for place, (_, held) in enumerate(segments) if held.is_snapshot]
    entries: list[tuple[SpoolEntry, float]] = []
    damaged: dict[Path, int] = {}
    torn: tuple[Path, int] | None = None
    for path, held in segments[snapshots[-1] if snapshots else 0 :]:
        if held.entries and torn is not None:
            # Something was written later, so this was no last write.
            damaged[torn[0]] = damaged.get(torn[0], 0) + torn[1]
            torn = None
        entries += held.entries
        if held.unreadable_bytes:
            damaged[path] = held.unreadable_bytes
        if held.torn_bytes:
            torn = (path, held.torn_bytes)
    return LogContents(
        entries=entries,
        damaged=frozenset(damaged),
        unreadable_bytes=sum(damaged.values()),
    )


@final
class SpoolLog:
    """The log of an owned directory, for appending; begins unsound, with `rewrite` to come."""

    def __init__(self, directory: ReplicaDirectory, *, segment_bytes: int) -> None:
        self._directory = directory
        self._segment_bytes = segment_bytes
        self._number = max((number for number, _ in directory.segments()), default=0)
        self._current: Segment | None = None
        self._spare: Segment | None = None
        self._earlier_bytes = 0
        self._is_sound = False
        self.snapshot_number = 0

    @property
    def is_sound(self) -> bool:
        """Whether everything it was given is in it."""
        return self._is_sound

    @property
    def used_bytes(self) -> int:
        """How much was written since the last snapshot began."""
        return self._earlier_bytes + (0 if self._current is None else self._current.used_bytes)

    def append(self, record: bytes, *, durable: bool) -> None:
        """Write a record; when `durable`, return only once it and all before it are on disk.

        Raises:
            OSError: The log is no longer sound.
        """
        is_sound, self._is_sound = self._is_sound, False
        if not is_sound or self._current is None:
            raise RuntimeError("a log that is not sound is rewritten, not appended to")
        if self._current.room_bytes < len(record):
            self._current = self._next(self._current, len(record))
        self._current.append(record)
        if durable:
            self._current.sync()
        self._is_sound = True

    def reserve(self) -> None:
        """Have the next segment ready when half of this one is full.

        Raises:
            OSError: There is no room for it; what this one still holds can be used.
        """
        current = self._current
        if current is not None and current.room_bytes < self._segment_bytes // 2:
            self._spare = self._spare or self._make(self._segment_bytes)

    def rewrite(self, records: Sequence[bytes]) -> None:
        """Begin anew with `records` as the whole live state, durably; the log is then sound.

        Raises:
            OSError: What the log held before it holds still. Where it was sound and the new
                snapshot did not get its name, it still is.
        """
        number = self._next_number()
        snapshot = Segment.make_snapshot(
            self._directory.segment_path(number),
            records,
            unfinished=self._directory.unfinished_path,
            room_bytes=self._segment_bytes,
        )
        # From here on a restart may find the snapshot and read nothing before it.
        self._is_sound = False
        self._release()
        self._current, self._earlier_bytes = snapshot, 0
        sync_directory(self._directory.path)
        self.snapshot_number = number
        self._is_sound = True

    def close(self) -> None:
        """Bring what was written to the disk, if it can be, and let the files go."""
        if self._current is not None and self._is_sound:
            with suppress(OSError):  # nothing of this was promised to be durable
                self._current.sync()
        self._is_sound = False
        self._release()

    def _next(self, full: Segment, needed_bytes: int) -> Segment:
        # Else a durable record in the next segment could outlive one before it in this.
        full.sync()
        following, self._spare = self._spare, None
        if following is not None and following.room_bytes < needed_bytes:
            following.close()
            following = None
        if following is None:
            following = self._make(max(self._segment_bytes, needed_bytes))
        self._earlier_bytes += full.used_bytes
        full.close()
        return following

    def _make(self, room_bytes: int) -> Segment:
        path = self._directory.segment_path(self._next_number())
        return Segment.make(path, room_bytes=room_bytes)

    def _next_number(self) -> int:
        # Never twice: the file of a failed attempt may still lie there.
        self._number += 1
        return self._number

    def _release(self) -> None:
        for segment in (self._current, self._spare):
            if segment is not None:
                segment.close()
        self._current = self._spare = None


def _read(path: Path) -> SegmentContents:
    try:
        return read_segment(path.read_bytes())
    except OSError:
        return SegmentContents(unreadable_bytes=_size_of(path))


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return _UNKNOWN_BYTES
