"""One segment of the spool's log, open for appending.

Its space is reserved when it is made: a full disk is met then, and not when an answer must be kept.
A failed write or sync leaves a segment in a state that nobody can know (the kernel reports a lost
page once and then forgets it), so its owner must write what matters to a new one.

It must not know what its records mean.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final, final

from sidecar.adapters.spool_codec import HEAD_BYTES, encode_head
from sidecar.adapters.spool_directory import sync_directory

_CLOSED: Final = -1
_CHUNK_BYTES: Final = 1 << 20
_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
_CANNOT_RESERVE: Final = frozenset({errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS})


@final
class Segment:
    """A file with room for records; nobody else appends to it."""

    def __init__(self, descriptor: int, *, size_bytes: int) -> None:
        self._descriptor = descriptor
        self._size_bytes = size_bytes
        self._end = 0

    @classmethod
    def make(cls, path: Path, *, room_bytes: int) -> Segment:
        """Make an empty segment with `room_bytes` reserved for records; its name is durable.

        Raises:
            OSError: No room, or the disk failed; what was begun is removed.
        """
        segment = cls._begin(path, size_bytes=HEAD_BYTES + room_bytes)
        try:
            segment.append(encode_head())
            sync_directory(path.parent)
        except OSError:
            segment.abandon(path)
            raise
        return segment

    @classmethod
    def make_snapshot(
        cls, path: Path, records: Iterable[bytes], *, unfinished: Path, room_bytes: int
    ) -> Segment:
        """Make a segment of the whole live state, with `room_bytes` left for more.

        It gets its name only when all of it is on disk: a segment is a whole snapshot or not there.
        Its name itself is not yet durable; see `sync_directory`.

        Raises:
            OSError: No room, or the disk failed; what was begun is removed.
        """
        held = tuple(records)
        size_bytes = HEAD_BYTES + sum(map(len, held)) + room_bytes
        segment = cls._begin(unfinished, size_bytes=size_bytes)
        try:
            segment.append(encode_head(snapshot_records=len(held)))
            for chunk in _chunked(held):
                segment.append(chunk)
            segment.sync()
            unfinished.rename(path)
        except OSError:
            segment.abandon(unfinished)
            raise
        return segment

    @property
    def used_bytes(self) -> int:
        """How much of it is written."""
        return self._end

    @property
    def room_bytes(self) -> int:
        """How much of it is reserved and free."""
        return self._size_bytes - self._end

    def append(self, data: bytes) -> None:
        """Write `data` after what is there; not durable before `sync`.

        Raises:
            OSError: Some of it may be there.
        """
        view = memoryview(data)
        while view:
            written = os.pwrite(self._descriptor, view, self._end)
            self._end += written
            view = view[written:]

    def sync(self) -> None:
        """Return once everything appended is on disk.

        Raises:
            OSError: Nobody knows what is there.
        """
        os.fdatasync(self._descriptor)

    def close(self) -> None:
        """Let the file go; what had to be on disk was synced before."""
        descriptor, self._descriptor = self._descriptor, _CLOSED
        if descriptor != _CLOSED:
            with suppress(OSError):  # Linux lets the descriptor go whatever it reports
                os.close(descriptor)

    def abandon(self, path: Path) -> None:
        """Let the file go and remove it.

        Raises:
            OSError: It is still there.
        """
        self.close()
        path.unlink(missing_ok=True)

    @classmethod
    def _begin(cls, path: Path, *, size_bytes: int) -> Segment:
        segment = cls(os.open(path, _FLAGS, 0o600), size_bytes=size_bytes)
        try:
            _reserve(segment._descriptor, size_bytes)
        except OSError:
            segment.abandon(path)
            raise
        return segment


def _reserve(descriptor: int, size_bytes: int) -> None:
    """Give the file its blocks; where the file system cannot promise them, fill it with zeros."""
    try:
        os.posix_fallocate(descriptor, 0, size_bytes)
    except OSError as error:
        if error.errno not in _CANNOT_RESERVE:
            raise
        for offset in range(0, size_bytes, _CHUNK_BYTES):
            zeros = bytes(min(_CHUNK_BYTES, size_bytes - offset))
            if os.pwrite(descriptor, zeros, offset) != len(zeros):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error


def _chunked(records: Iterable[bytes]) -> Iterable[bytes]:
    """Join records to larger writes."""
    chunk: list[bytes] = []
    size_bytes = 0
    for record in records:
        chunk.append(record)
        size_bytes += len(record)
        if size_bytes >= _CHUNK_BYTES:
            yield b"".join(chunk)
            chunk, size_bytes = [], 0
    yield b"".join(chunk)
