"""What a directory is like as a place for the spool: its disk, its room, who uses it.

It looks, writes one small file and takes it away again; it decides nothing.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sidecar.adapters.file_spool import SEGMENT_BYTES
from sidecar.adapters.spool_directory import LOCK_NAME, is_replica_directory

NEEDED_BYTES: Final = 2 * SEGMENT_BYTES
"""A log and its successor, while one is written over from the other."""

MOUNTS: Final = Path("/proc/self/mountinfo")
_ESCAPED: Final = re.compile(r"\\([0-7]{3})")
_TRIAL: Final = ".doctor"


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolPlace:
    """A directory, or the one above it in which a start would make it.

    Attributes:
        is_there: Whether it exists.
        trouble: Name of the error that writing there ended with, or ``""``.
        filesystem: As the kernel calls its type; ``""`` where that cannot be seen.
        free_bytes: What this user may still write.
        in_use: Replicas that have a directory in it and run.
        left: Directories of replicas that have ended; the next start takes them over.
        foreign: Directories that this user may not open.
    """

    is_there: bool
    trouble: str
    filesystem: str
    free_bytes: int
    in_use: int = 0
    left: int = 0
    foreign: int = 0


def look_at(root: Path) -> SpoolPlace:
    """Return what can be seen of `root`."""
    is_there = _is_there(root)
    place = root if is_there else next(path for path in root.parents if _is_there(path))
    trouble = _try_to_write(place)
    try:
        disk = os.statvfs(place)
        free_bytes = disk.f_bavail * disk.f_frsize
        owners = [_owner_of(path) for path in _replicas(place)] if is_there else []
    except OSError as error:
        trouble, free_bytes, owners = trouble or _name_of(error), 0, []
    return SpoolPlace(
        is_there=is_there,
        trouble=trouble,
        filesystem=_filesystem_of(place),
        free_bytes=free_bytes,
        in_use=owners.count("running"),
        left=owners.count("ended"),
        foreign=owners.count("foreign"),
    )


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except PermissionError:
        return False


def _try_to_write(place: Path) -> str:
    trial = place / f"{_TRIAL}-{os.getpid()}"
    try:
        descriptor = os.open(trial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            os.write(descriptor, b"doctor")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
            trial.unlink()
    except OSError as error:
        return _name_of(error)
    return ""


def _replicas(root: Path) -> Sequence[Path]:
    return [path for path in sorted(root.iterdir()) if is_replica_directory(path)]


def _owner_of(path: Path) -> str:
    """Tell whether somebody holds the lock of a directory; it is not taken from anybody."""
    try:
        descriptor = os.open(path / LOCK_NAME, os.O_RDONLY | os.O_NOFOLLOW)
    except PermissionError:
        return "foreign"
    except OSError:
        return "ended"
    try:
        # Shared, and let go at once: a start that comes in between adopts it the next time.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return "running"
    except OSError:
        return "foreign"
    finally:
        os.close(descriptor)
    return "ended"


def _filesystem_of(place: Path) -> str:
    """Return the type of the mount that a directory lies in."""
    wanted = str(place.resolve())
    best, found = -1, ""
    try:
        lines = MOUNTS.read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    for line in lines:
        fields, _, rest = line.partition(" - ")
        point = _ESCAPED.sub(lambda octal: chr(int(octal[1], 8)), fields.split(" ")[4])
        is_above = wanted == point or wanted.startswith(point.rstrip("/") + "/")
        if is_above and len(point) >= best:  # of two at one point the later one is on top
            best, found = len(point), rest.split(" ")[0]
    return found


def _name_of(error: OSError) -> str:
    return errno.errorcode.get(error.errno or errno.EIO, "EIO")
