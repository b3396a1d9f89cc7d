"""Log lines: one JSON object a line, or lines for people; redacted, never a traceback.

It knows no event (see `observer`): whoever logs gives a name, a level and fields. Where lines go is
the business of `line_writer`, and what else they are made of that of `output`.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Hashable, Mapping, MutableMapping
from datetime import UTC, datetime
from enum import IntEnum
from pathlib import Path
from threading import RLock
from time import monotonic
from typing import Final, Literal, Protocol, cast, final

import orjson
import structlog

from sidecar.telemetry.edges import Edges, Whose
from sidecar.telemetry.redaction import is_suspect, redact, redact_text

LONGEST_FOREIGN_MESSAGE: Final = 120
LIBRARY_LOGGED: Final = "library.logged"
LINES_DROPPED: Final = "log.lines_dropped"
LINES_REPEATED: Final = "log.lines_repeated"
REPORT_EVERY_S: Final = 10.0
"""How often what was left out is told, if there is anything."""


Fields = Mapping[str, object]
EventDict = MutableMapping[str, object]
LogFormat = Literal["json", "console"]


class Level(IntEnum):
    """How urgent a line is, with the numbers of the standard library."""

    DEBUG = logging.DEBUG
    INFO = logging.INFO
    WARNING = logging.WARNING
    ERROR = logging.ERROR


class LineSink(Protocol):
    """Takes finished lines."""

    @property
    def is_terminal(self) -> bool:
        """Whether a person looks at them."""
        ...

    def put(self, line: bytes, *, level: str, is_kept: bool) -> None:
        """Take one line without its end; must not wait, and must not raise.

        Args:
            line: UTF-8.
            level: The name of its level.
            is_kept: Whether it should be dropped only after all others.
        """
        ...


@final
class Log:
    """Makes lines; safe to use from several threads.

    A line is finished, redacted too, by whoever writes it: what it says may change a moment later,
    and only a finished line has a size.
    """

    def __init__(
        self,
        sink: LineSink,
        *,
        least: Level = Level.INFO,
        log_format: LogFormat = "json",
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        elapsed_s: Callable[[], float] = monotonic,
    ) -> None:
        self.least = least
        self._sink = sink
        self._render = _render_json if log_format == "json" else _console_renderer(sink)
        self._now = now
        self._elapsed_s = elapsed_s
        self._edges = Edges()
        # A finalizer may log in the middle of a step of its own thread.
        self._lock = RLock()
        self._report_at_s = elapsed_s() + REPORT_EVERY_S

    def write(self, level: Level, event: str, fields: Fields, *, is_kept: bool = False) -> None:
        """Write a line, if its level is logged.

        Args:
            level: From `Level.WARNING` on a line is one that is kept.
            event: Its name.
            fields: In the order in which they are shown.
            is_kept: Whether a line of a lower level is dropped only after all others as well.
        """
        if level < self.least:
            return
        if self._elapsed_s() >= self._report_at_s:
            self._report(is_last=False)
        self._put(level, event, fields, is_kept=is_kept or level >= Level.WARNING)

    def write_once(
        self, level: Level, whose: Whose, fields: Fields, *, state: Hashable = None
    ) -> None:
        """Write a line if its state is new; one after a change says how many were left out."""
        if level < self.least:
            return
        with self._lock:
            left_out = self._edges.see(whose, state, self._elapsed_s())
        if left_out is not None:
            told = {**fields, "repeated": left_out} if left_out else fields
            self.write(level, whose.event, told)

    def end(self, whose: Whose) -> None:
        """Take note that a state is over: the next line of it is written."""
        with self._lock:
            self._edges.end(whose)

    def finish(self) -> None:
        """Say what was left out of lines so far."""
        self._report(is_last=True)

    def write_foreign(self, level: Level, fields: Fields) -> None:
        """Write what a library said, once while it goes on saying it."""
        whose = Whose(LIBRARY_LOGGED, tuple(map(str, fields.values())))
        self.write_once(level, whose, fields, state=level)

    def gap_line(self, lines: int) -> bytes:
        """Return the line that says that so many were dropped, or nothing if it is not logged."""
        if self.least > Level.WARNING:
            return b""
        return self._line(Level.WARNING, LINES_DROPPED, {"lines": lines}) + b"\n"

    def _report(self, *, is_last: bool) -> None:
        with self._lock:
            now_s = self._elapsed_s()
            self._report_at_s = now_s + REPORT_EVERY_S
            over = self._edges.report(now_s, is_last=is_last)
        if self.least <= Level.INFO:
            for event, left_out in over.items():
                fields = {"of": event, "states": left_out.states, "lines": left_out.lines}
                self._put(Level.INFO, LINES_REPEATED, fields, is_kept=True)

    def _put(self, level: Level, event: str, fields: Fields, *, is_kept: bool) -> None:
        line = self._line(level, event, fields)
        self._sink.put(line, level=level.name.lower(), is_kept=is_kept)

    def _line(self, level: Level, event: str, fields: Fields) -> bytes:
        head = {"timestamp": self._now(), "level": level.name.lower(), "event": event}
        return self._render({**head, **fields})


def _render_json(event: EventDict) -> bytes:
    line = orjson.dumps(event, default=repr, option=orjson.OPT_UTC_Z)
    if is_suspect(line.decode(), event):
        stamp = event.pop("timestamp")
        told = {"timestamp": stamp, **redact(event)}
        line = orjson.dumps(told, default=repr, option=orjson.OPT_UTC_Z)
    return line


def _console_renderer(sink: LineSink) -> Callable[[EventDict], bytes]:
    renderer = structlog.dev.ConsoleRenderer(colors=sink.is_terminal)

    def render(event: EventDict) -> bytes:
        stamp = cast("datetime", event.pop("timestamp"))
        told = {"timestamp": stamp.isoformat(timespec="milliseconds"), **redact(event)}
        return renderer(None, str(event["level"]), told).encode()

    return render


def name_error(error: BaseException) -> str:
    """Return the class of an exception and its innermost frame; its message may hold a secret."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return type(error).__name__
    frame = frames[-1]
    return f"{type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}"


@final
class ForeignHandler(logging.Handler):
    """Carries what libraries log into a `Log`, as ``library.logged``.

    Only the constant part of a message goes on: libraries put values, objects and whole requests
    into theirs.
    """

    def __init__(self, log: Log) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record; as every handler must, without raising."""
        try:
            self._log.write_foreign(_level_of(record.levelno), _fields_of(record))
        except Exception:  # noqa: BLE001 - the logging module's own way to report a failed handler
            self.handleError(record)


def _level_of(levelno: int) -> Level:
    return max((level for level in Level if level <= levelno), default=Level.DEBUG)


def _fields_of(record: logging.LogRecord) -> dict[str, object]:
    # A warning comes as "file:line: Category: text"; the text may hold anything.
    is_warning = record.name == "py.warnings"
    told = ": ".join(record.getMessage().split(": ")[:2]) if is_warning else str(record.msg)
    fields: dict[str, object] = {"logger": record.name, "message": constant_part(told)}
    if record.exc_info and record.exc_info[1] is not None:
        fields["error"] = name_error(record.exc_info[1])
    return fields


def constant_part(message: str) -> str:
    """Return what of a library's message may be shown: up to where values begin, and redacted."""
    first_line = message.partition("\n")[0]
    for opening in "<({['\"`":
        first_line = first_line.partition(opening)[0]
    return redact_text(first_line.strip()[:LONGEST_FOREIGN_MESSAGE])
