"""Durable local copies of what the store may not have yet: the spool on a disk.

At the start it owns one directory below its root and adopts every other one whose owner is dead:
their entries are folded into one state, which is written to a new segment and is on disk before
anything old is removed. So an entry may be seen twice, and never not at all. The same rewriting
serves whenever more than half of the log is dead, and to mend the log after a failed write.

Nothing here waits for the disk in the background: a durable write returns when the data is there.
One thread uses a spool. It sees envelopes only, never a token, and must not know what becomes of
the entries. Layout: `spool_directory`; bytes: `spool_codec`; the log: `spool_log`.
"""

from __future__ import annotations

import errno
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Self, final

from sidecar.adapters.spool_codec import encode_record
from sidecar.adapters.spool_directory import (
    ReplicaDirectory,
    sync_directory,
    unowned_directories,
)
from sidecar.adapters.spool_log import SpoolLog, read_log
from sidecar.domain.record import ReplicaId
from sidecar.domain.spooled import SpoolEntry, SpoolState
from sidecar.ports import Clock, Entropy, SpoolError

SEGMENT_BYTES: Final = 4 << 20
_MEND_EVERY_S: Final = 1.0


@final
class FileSpool:
    """Implements `sidecar.ports.Spool` on a directory; made by `open`.

    Attributes:
        adopted_directories: How many directories of dead owners were adopted at the start.
        unreadable_bytes: How much of the logs could not be read at the start; the segments in
            question lie in the directory as ``*.damaged``.
    """

    def __init__(self, *, own: ReplicaDirectory, clock: Clock, segment_bytes: int) -> None:
        self.adopted_directories = 0
        self.unreadable_bytes = 0
        self._own = own
        self._clock = clock
        self._segment_bytes = segment_bytes
        self._log = SpoolLog(own, segment_bytes=segment_bytes)
        self._state = SpoolState()
        self._adopted: list[ReplicaDirectory] = []
        self._damaged: frozenset[Path] = frozenset()
        self._compact_above_bytes = 0
        self._mend_at_s = 0.0
        self._fault = ""
        self._is_closed = False

    @classmethod
    def open(
        cls, root: Path, *, clock: Clock, entropy: Entropy, segment_bytes: int = SEGMENT_BYTES
    ) -> Self:
        """Own a directory below `root`, adopt those of dead owners, and read what they hold.

        If the disk can be read and not written, the spool is there and not writable: what it holds
        can still reach the store.

        Args:
            root: A directory on a disk that outlives the process; made if it is missing.
            clock: Stamps the entries, and spaces the attempts to mend the log.
            entropy: Names the replica, where no unowned directory has a name for it.
            segment_bytes: Space that is reserved at a time; compaction spares a smaller log.

        Raises:
            SpoolError: No directory can be owned or read.
        """
        with _translated():
            _make_root(root)
            owned = unowned_directories(root) or [_made(root, entropy)]
            try:
                spool = cls(own=owned[0], clock=clock, segment_bytes=segment_bytes)
                for directory in owned:
                    spool._read(directory)
            except OSError:
                for directory in owned:
                    directory.release()
                raise
        spool._adopted += owned[1:]
        spool.adopted_directories = len(spool._adopted)
        with suppress(OSError):  # `is_writable` says so, and tries again
            spool._mend()
        return spool

    @property
    def replica_id(self) -> ReplicaId:
        """The id under which the store knows the owner of this directory."""
        return self._own.replica_id

    @property
    def log_bytes(self) -> int:
        """How long the log is; what is reserved and not written does not count."""
        return self._log.used_bytes

    @property
    def state(self) -> SpoolState:
        """What the log adds up to, what could not be written included."""
        return self._state

    @property
    def parked_since_s(self) -> float:
        """When the oldest pair that the store has not confirmed was written, or 0."""
        return self._state.parked_since_s

    @property
    def fault(self) -> str:
        """Why the next durable write is expected to fail; "": it is not.

        Reserves the next segment in time; mends the log after a failure, once a second at most.
        """
        if self._is_closed:
            return errno.errorcode[errno.EBADF]
        if self._clock.elapsed_s() < self._mend_at_s:
            return self._fault
        try:
            if not self._log.is_sound:
                self._mend()
            self._log.reserve()
        except OSError as error:
            self._mend_at_s = self._clock.elapsed_s() + _MEND_EVERY_S
            self._fault = _name_of(error)
            return self._fault
        return ""

    @property
    def is_writable(self) -> bool:
        """Whether there is no `fault`."""
        return not self.fault

    def write(self, entry: SpoolEntry, *, durable: bool) -> None:
        """Append `entry` and fold it in; when `durable`, return only once it is on disk.

        After a failure, the next write that succeeds brings everything to the disk that was missed.

        Raises:
            SpoolError: It is not there; the fold is as if it were.
        """
        at_s = self._clock.now_s()
        self._state.apply(entry, at_s=at_s)
        if self._is_closed:
            raise SpoolError(errno.errorcode[errno.EBADF])
        with _translated():
            if self._log.is_sound:
                self._log.append(encode_record(entry, at_s=at_s), durable=durable)
            else:
                self._mend()
        if self._log.used_bytes > self._compact_above_bytes:
            self._compact()

    def close(self) -> None:
        """Let the directory go; the log is mended before, if it can be."""
        if self._is_closed:
            return
        self._is_closed = True
        if not self._log.is_sound:
            with suppress(OSError):  # whoever wrote what is missing was told so
                self._mend()
        self._log.close()
        for directory in (self._own, *self._adopted):
            directory.release()

    def _read(self, directory: ReplicaDirectory) -> None:
        held = read_log(directory)
        read = SpoolState()
        for entry, at_s in held.entries:
            read.apply(entry, at_s=at_s)
        # Only what is alive in its own log: an end there may stand for a beginning here.
        for entry, at_s in read.live_entries():
            self._state.apply(entry, at_s=at_s)
        self._damaged |= held.damaged
        self.unreadable_bytes += held.unreadable_bytes

    def _compact(self) -> None:
        """Rewrite the log if more than half of it is dead; never a reason for a write to fail."""
        used_bytes = self._log.used_bytes
        records = self._live_records()
        live_bytes = sum(map(len, records))
        self._compact_above_bytes = max(2 * live_bytes, used_bytes + self._segment_bytes)
        if 2 * live_bytes < used_bytes:
            # A log that this leaves unsound is mended by the next write; a sound one goes on.
            with suppress(OSError):
                self._rewrite(records)

    def _mend(self) -> None:
        self._rewrite(self._live_records())

    def _live_records(self) -> list[bytes]:
        return [encode_record(entry, at_s=at_s) for entry, at_s in self._state.live_entries()]

    def _rewrite(self, records: list[bytes]) -> None:
        self._log.rewrite(records)
        self._compact_above_bytes = max(2 * self._log.used_bytes, self._segment_bytes)
        self._mend_at_s = 0.0
        with suppress(OSError):  # it is only repeated; the next rewriting tries again
            self._drop_old()

    def _drop_old(self) -> None:
        """Remove what the snapshot made worthless, the oldest first."""
        for number, path in self._own.segments():
            if number < self._log.snapshot_number:
                self._drop(path)
        while self._adopted:
            directory = self._adopted[0]
            for _, path in directory.segments():
                self._drop(path)
            directory.remove(heir=self._own)
            del self._adopted[0]

    def _drop(self, segment: Path) -> None:
        if segment in self._damaged:
            self._own.put_aside(segment)
        else:
            segment.unlink()


def _make_root(root: Path) -> None:
    if not root.is_dir():
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        sync_directory(root.parent)


def _made(root: Path, entropy: Entropy) -> ReplicaDirectory:
    """Make a directory of our own; another process may adopt an empty one before we lock it."""
    while True:
        directory = ReplicaDirectory.make(root, entropy.new_id())
        if directory is not None:
            return directory


@contextmanager
def _translated() -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise SpoolError(_name_of(error)) from error


def _name_of(error: OSError) -> str:
    return errno.errorcode.get(error.errno or errno.EIO, "EIO")
