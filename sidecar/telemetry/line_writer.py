"""Writes finished lines to a descriptor from a thread of its own, so that logging never waits.

A pipe that no one reads, a terminal that is stopped, or a slow disk stops this thread and nothing
else. What has not been written yet is bounded, in lines and in bytes: when there is no more room, a
new line is dropped and counted. Lines that matter most have room of their own, which the others
cannot take. It knows neither what a line says nor what happens to the counts.

The descriptor's flags stay as they are: other processes may share its description. A write holds
whole lines and at most `PIPE_BUF` bytes of them, which a pipe takes as a whole or not at all, so
that no line is torn when several processes write, or when the process ends while a write waits.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from queue import Empty, SimpleQueue
from threading import RLock, Thread
from time import monotonic, sleep
from typing import Final, final

COALESCE_S: Final = 0.05
"""How long an ordinary line may wait for others to be written with it."""

TELL_GAP_EVERY_S: Final = 1.0
ASK_AGAIN_S: Final = 0.01
LAST_WORDS_S: Final = 1.0
"""How long the end of the process may wait for what is not written yet."""


class Loss(StrEnum):
    """Why a line was dropped."""

    BUFFER_FULL = "buffer_full"
    WRITE_FAILED = "write_failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """How much may wait to be written."""

    lines: int
    size_bytes: int


ORDINARY: Final = Room(lines=8192, size_bytes=4 * 1024 * 1024)
RESERVE: Final = Room(lines=2048, size_bytes=1024 * 1024)


@final
class _Lane:
    """What waits in one room. Loggers add and the writer takes, so that each number has one side.

    Both only grow: no interrupted step can leave the room smaller for good.
    """

    def __init__(self, room: Room) -> None:
        self._room = room
        self._added_lines = self._added_bytes = 0
        self._taken_lines = self._taken_bytes = 0

    def add(self, size_bytes: int) -> bool:
        """Take up room, if there is enough of it."""
        lines = self._added_lines - self._taken_lines
        waiting_bytes = self._added_bytes - self._taken_bytes
        if lines >= self._room.lines or waiting_bytes + size_bytes > self._room.size_bytes:
            return False
        self._added_lines += 1
        self._added_bytes += size_bytes
        return True

    def take(self, size_bytes: int) -> None:
        """Give the room of one line back."""
        self._taken_lines += 1
        self._taken_bytes += size_bytes


@dataclass(frozen=True, slots=True)
class _Line:
    data: bytes
    level: str
    lane: _Lane


@final
class LineWriter:
    """Lines in the order in which they were put; safe to use from several threads.

    `put` may be called anywhere, finalizers included: none of its locks can be held by the code
    that it interrupts.
    """

    def __init__(
        self,
        descriptor: int,
        *,
        dropped: Callable[[str, str], None] = lambda _level, _loss: None,
        ordinary: Room | None = None,
        reserve: Room | None = None,
    ) -> None:
        """Write to `descriptor`, which stays open, from `start` on.

        Args:
            descriptor: May be blocking or not, and anything that can be written to.
            dropped: Called for each line that is dropped, from any thread, with its level and why.
            ordinary: Bounds what waits of most lines; `ORDINARY` where it is not given.
            reserve: Bounds what waits of the lines that are put with `is_kept`; or `RESERVE`.
        """
        self._descriptor = descriptor
        self._dropped = dropped
        self._ordinary, self._reserve = _Lane(ordinary or ORDINARY), _Lane(reserve or RESERVE)
        # Of the queues of the standard library only this one may be used by a finalizer that
        # interrupts its own `put`.
        self._lines: SimpleQueue[_Line | None] = SimpleQueue()
        self._hurry: SimpleQueue[None] = SimpleQueue()
        self._lock = RLock()
        self._is_closed = False
        self._is_torn = self._is_failing = False
        self._missing = 0
        self._told_at_s = -TELL_GAP_EVERY_S
        self._gap_line: Callable[[int], bytes] = lambda _lines: b""
        self._thread = Thread(target=self._run, name="log-writer", daemon=True)

    @property
    def is_terminal(self) -> bool:
        """Whether a person looks at the lines."""
        return os.isatty(self._descriptor)

    def start(self, *, gap_line: Callable[[int], bytes] = lambda _lines: b"") -> None:
        """Begin to write.

        Args:
            gap_line: Returns the line, with its end, or nothing, that is written once lines can be
                written again; called by the writer with how many were dropped since the last one.
        """
        self._gap_line = gap_line
        self._thread.start()

    def put(self, line: bytes, *, level: str, is_kept: bool) -> None:
        """Have a line written, or drop it where there is no room; never waits."""
        lane = self._reserve if is_kept else self._ordinary
        data = line + b"\n"
        with self._lock:
            if self._is_closed:
                return
            if has_room := lane.add(len(data)):
                self._lines.put(_Line(data, level, lane))
        if not has_room:
            self._drop(level, Loss.BUFFER_FULL)
        elif is_kept:
            self._hurry.put(None)

    def close(self, *, until_s: float) -> bool:
        """Take no more lines; return whether all that waited were written.

        Args:
            until_s: When to give up, on the clock of `time.monotonic`.
        """
        with self._lock:
            self._is_closed = True
            self._lines.put(None)
        self._hurry.put(None)
        self._thread.join(max(0.0, until_s - monotonic()))
        return not self._thread.is_alive()

    def _drop(self, level: str, loss: Loss) -> None:
        with self._lock:
            self._missing += 1
        self._dropped(level, loss)

    def _run(self) -> None:
        is_open = True
        while is_open:
            is_open = self._write_batch()
            if self._owes_report and (not is_open or self._may_report):
                self._report_gap()

    @property
    def _owes_report(self) -> bool:
        """Whether lines are missing, and the last write is no reason to expect more of them."""
        return self._missing > 0 and not self._is_failing

    @property
    def _may_report(self) -> bool:
        return monotonic() - self._told_at_s >= TELL_GAP_EVERY_S

    def _write_batch(self) -> bool:
        """Wait for a line and write what there is; return whether to go on."""
        try:
            line = self._lines.get(timeout=TELL_GAP_EVERY_S if self._owes_report else None)
        except Empty:
            return True
        self._wait_for_more()
        chunk: list[_Line] = []
        size_bytes = 0
        while line is not None:
            if size_bytes + len(line.data) > select.PIPE_BUF:
                self._write_chunk(chunk)
                chunk, size_bytes = [], 0
            chunk.append(line)
            size_bytes += len(line.data)
            try:
                line = self._lines.get_nowait()
            except Empty:
                self._write_chunk(chunk)
                return True
        self._write_chunk(chunk)
        return False

    def _wait_for_more(self) -> None:
        """Let ordinary lines gather for a moment; a line that matters ends the wait."""
        try:
            self._hurry.get(timeout=COALESCE_S)
            while True:
                self._hurry.get_nowait()
        except Empty:
            return

    def _write_chunk(self, chunk: list[_Line]) -> None:
        if not chunk:
            return
        left_bytes = self._write(b"".join(line.data for line in chunk))
        for line in chunk:
            line.lane.take(len(line.data))
            left_bytes -= len(line.data)
            if left_bytes < 0:
                self._drop(line.level, Loss.WRITE_FAILED)

    def _write(self, lines: bytes) -> int:
        """Write whole lines; return how many bytes of them were written."""
        # What was left unfinished must not run into the next line.
        begin = b"\n" if self._is_torn else b""
        data = memoryview(begin + lines)
        written = 0
        try:
            while written < len(data):
                written += self._write_some(data[written:])
        except OSError:
            self._is_failing = True
        else:
            self._is_failing = False
        if written:
            self._is_torn = data[written - 1] != ord("\n")
        return max(0, written - len(begin))

    def _write_some(self, data: memoryview) -> int:
        while True:
            try:
                return os.write(self._descriptor, data)
            except BlockingIOError:  # somebody else made the description so
                poll = select.poll()
                poll.register(self._descriptor, select.POLLOUT)
                poll.poll()
                sleep(ASK_AGAIN_S)  # room for less than a chunk counts as room

    def _report_gap(self) -> None:
        with self._lock:
            missing, self._missing = self._missing, 0
        line = self._gap_line(missing)
        if self._write(line) < len(line):
            with self._lock:
                self._missing += missing
        self._told_at_s = monotonic()
