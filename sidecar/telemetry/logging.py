"""Log lines on stdout: one JSON object a line, or lines for people; redacted, never a traceback.

It owns structlog and the root of the standard library's logging. It knows no event (see
`observer`): whoever logs gives a name, a level and fields.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Callable, Mapping, MutableMapping
from datetime import UTC, datetime
from enum import IntEnum
from pathlib import Path
from typing import BinaryIO, Final, Literal, cast, final

import orjson
import structlog
from structlog.typing import FilteringBoundLogger, WrappedLogger

from sidecar.telemetry.redaction import is_suspect, redact, redact_text

LONGEST_FOREIGN_MESSAGE: Final = 120

Fields = Mapping[str, object]
EventDict = MutableMapping[str, object]
LogFormat = Literal["json", "console"]


class Level(IntEnum):
    """How urgent a line is, with the numbers of the standard library."""

    DEBUG = logging.DEBUG
    INFO = logging.INFO
    WARNING = logging.WARNING
    ERROR = logging.ERROR


@final
class Log:
    """Writes lines; safe to use from several threads.

    A line is written with one call, unbuffered, so that the last words of a dying process are
    seen.
    """

    def __init__(
        self,
        *,
        least: Level = Level.INFO,
        log_format: LogFormat = "json",
        stream: BinaryIO | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        target = stream or sys.stdout.buffer
        render = _render_json if log_format == "json" else _console_renderer(target)
        self.least = least
        self._now = now
        logger: FilteringBoundLogger = structlog.wrap_logger(
            structlog.BytesLogger(target),
            processors=[self._stamp, render],
            wrapper_class=structlog.make_filtering_bound_logger(least),
        ).bind()
        self._writers: dict[Level, Callable[..., object]] = {
            Level.DEBUG: logger.debug,
            Level.INFO: logger.info,
            Level.WARNING: logger.warning,
            Level.ERROR: logger.error,
        }

    def write(self, level: Level, event: str, fields: Fields) -> None:
        """Write a line, if its level is logged."""
        if level >= self.least:
            self._writers[level](event, **fields)

    def _stamp(self, _logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        return {"timestamp": self._now(), "level": method, "event": event.pop("event"), **event}


def _render_json(_logger: WrappedLogger, _method: str, event: EventDict) -> bytes:
    line = orjson.dumps(event, default=repr, option=orjson.OPT_UTC_Z)
    if is_suspect(line.decode(), event):
        stamp = event.pop("timestamp")
        told = {"timestamp": stamp, **redact(event)}
        line = orjson.dumps(told, default=repr, option=orjson.OPT_UTC_Z)
    return line


def _console_renderer(target: BinaryIO) -> Callable[[WrappedLogger, str, EventDict], bytes]:
    renderer = structlog.dev.ConsoleRenderer(colors=target.isatty())

    def render(logger: WrappedLogger, method: str, event: EventDict) -> bytes:
        stamp = cast("datetime", event.pop("timestamp"))
        told = {"timestamp": stamp.isoformat(timespec="milliseconds"), **redact(event)}
        return renderer(logger, method, told).encode()

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
            self._log.write(_level_of(record.levelno), "library.logged", _fields_of(record))
        except Exception:  # noqa: BLE001 - the logging module's own way to report a failed handler
            self.handleError(record)


def _level_of(levelno: int) -> Level:
    return max((level for level in Level if level <= levelno), default=Level.DEBUG)


def _fields_of(record: logging.LogRecord) -> dict[str, object]:
    # A warning comes as "file:line: Category: text"; the text may hold anything.
    is_warning = record.name == "py.warnings"
    told = ": ".join(record.getMessage().split(": ")[:2]) if is_warning else str(record.msg)
    fields: dict[str, object] = {"logger": record.name, "message": _constant_part(told)}
    if record.exc_info and record.exc_info[1] is not None:
        fields["error"] = name_error(record.exc_info[1])
    return fields


def _constant_part(message: str) -> str:
    first_line = message.partition("\n")[0]
    for opening in "<({['\"`":
        first_line = first_line.partition(opening)[0]
    return redact_text(first_line.strip()[:LONGEST_FOREIGN_MESSAGE])


def adopt_library_loggers(log: Log) -> None:
    """Let every logger of the standard library write into `log`, from warning on.

    Their access logs and chatter stay off: `request.completed` is the one line of a request.
    """
    logging.raiseExceptions = False
    root = logging.getLogger()
    for handler in tuple(root.handlers):
        root.removeHandler(handler)
    root.addHandler(ForeignHandler(log))
    root.setLevel(max(log.least, Level.WARNING))
    logging.captureWarnings(capture=True)
