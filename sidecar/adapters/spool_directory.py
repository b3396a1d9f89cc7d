"""The directory of one replica: who owns it, and which files are its log.

Below the spool's root, each replica has ``replica-<id>/``, and in it ``lock``, the segments
``segment-<number>.log`` in the order they were begun, and perhaps ``*.damaged``: segments that
could not be read to their end, kept for whoever wants to look. The replica's id is the name of its
directory.

Whoever holds the `flock` on ``lock`` owns the directory. The kernel keeps it for a process that is
stopped and drops it with the last breath of one that is killed, so an unlocked directory proves
that its former owner is dead. It must not know what a segment holds.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final, final

from sidecar.domain.record import ReplicaId

_DIRECTORY: Final = re.compile(r"replica-([0-9a-f]{32})")
_SEGMENT: Final = re.compile(r"segment-([0-9]{10})\.log")
LOCK_NAME: Final = "lock"
_UNFINISHED: Final = "segment.unfinished"
_NOT_OURS: Final = frozenset({errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT})


@final
class ReplicaDirectory:
    """A directory that this process owns until `release` or `remove`."""

    def __init__(self, path: Path, *, lock: int) -> None:
        self.path = path
        self.replica_id = ReplicaId(path.name.removeprefix("replica-"))
        self._lock = lock

    @classmethod
    def make(cls, root: Path, replica_id: str) -> ReplicaDirectory | None:
        """Make a directory and own it; ``None`` if somebody else was faster to own it.

        Raises:
            OSError: It cannot be made.
        """
        path = root / f"replica-{replica_id}"
        path.mkdir(mode=0o700)
        sync_directory(root)
        return cls.seize(path)

    @classmethod
    def seize(cls, path: Path) -> ReplicaDirectory | None:
        """Own the directory; ``None`` if somebody else does, or it is gone.

        Raises:
            OSError: It is there and cannot be opened: another user's, or the disk's fault.
        """
        try:
            lock = os.open(path / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Its owner may have removed the directory between the opening and the locking.
            is_there = os.path.samestat(os.fstat(lock), (path / LOCK_NAME).stat())
        except (BlockingIOError, FileNotFoundError):
            is_there = False
        except OSError:
            os.close(lock)
            raise
        if is_there:
            return cls(path, lock=lock)
        os.close(lock)
        return None

    def segments(self) -> Sequence[tuple[int, Path]]:
        """Return number and path of each segment, oldest first."""
        found = ((_SEGMENT.fullmatch(name), name) for name in os.listdir(self.path))  # noqa: PTH208 - names
        return sorted((int(match[1]), self.path / name) for match, name in found if match)

    def segment_path(self, number: int) -> Path:
        """Return where segment `number` lies."""
        return self.path / f"segment-{number:010}.log"

    @property
    def unfinished_path(self) -> Path:
        """Where a segment is written that counts only once it is renamed."""
        return self.path / _UNFINISHED

    def put_aside(self, segment: Path) -> None:
        """Keep a damaged segment, of this or another replica, out of the log's way.

        Raises:
            OSError: It lies where it lay.
        """
        name = f"{segment.parent.name}-{segment.stem}.damaged"
        segment.rename(self.path / name)

    def release(self) -> None:
        """Let the directory go and leave it as it is."""
        os.close(self._lock)

    def remove(self, *, heir: ReplicaDirectory) -> None:
        """Remove the directory without its segments, and let it go; `heir` gets what lay aside.

        Raises:
            OSError: It could not be emptied; it is still owned.
        """
        for path in self.path.glob("*.damaged"):
            path.rename(heir.path / path.name)
        self.unfinished_path.unlink(missing_ok=True)
        (self.path / LOCK_NAME).unlink(missing_ok=True)
        try:
            self.path.rmdir()
        except OSError as error:
            # The lock is unlinked: another process may lock a new one and own the directory.
            if error.errno not in _NOT_OURS:
                raise
        self.release()


def is_replica_directory(path: Path) -> bool:
    """Whether a path has the name of a replica's directory."""
    return _DIRECTORY.fullmatch(path.name) is not None


def unowned_directories(root: Path) -> Sequence[ReplicaDirectory]:
    """Own and return every directory below `root` that nobody owns, by name.

    Raises:
        OSError: One of them cannot be opened; none is kept.
    """
    seized: list[ReplicaDirectory] = []
    try:
        for path in sorted(root.iterdir()):
            directory = ReplicaDirectory.seize(path) if is_replica_directory(path) else None
            seized += [] if directory is None else [directory]
    except OSError:
        for directory in seized:
            directory.release()
        raise
    return seized


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable.

    Raises:
        OSError: They may not be.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
