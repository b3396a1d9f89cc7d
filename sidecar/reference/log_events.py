"""The page of log events: name, level, fields, meaning.

It decides wording only; the lines are `sidecar.telemetry.lines`', the meanings stand with the
events.
"""

from __future__ import annotations

from sidecar.domain.events import Event
from sidecar.reference.tables import code, codes, first_sentence, heading, table
from sidecar.telemetry.lines import LINES, Line, names_of


def log_events_page() -> str:
    """Return `docs/reference/log-events.md`."""
    parts = [
        heading(
            "Log events",
            "log-events",
            "One JSON object a line on standard output: `timestamp` (RFC 3339, UTC), `level`, "
            "`event`, then the fields below.\nA field without a value is left out.\n"
            "`SIDECAR_LOG_FORMAT=console` writes the same for people.",
            "`grant` is a keyed hash of provider and user: the same in the whole fleet, so that "
            "lines can be joined, and no person is named.\n"
            "No line holds a token, a key, a header value or a query string.",
            "Levels: `error` wants a person, `warning` heals by itself, `info` is a change of "
            "state or a request, `debug` is for developers.",
        ),
        table(("event", "level", "fields", "meaning"), map(_row, LINES, LINES.values())),
        "## Libraries\n",
        (
            "What libraries log, from `warning` on, comes as `library.logged` with `logger`, "
            "`message` (its constant part only) and `error` (class and place of an exception, "
            "never its message).\n"
        ),
    ]
    return "\n".join(parts)


def _row(event: type[Event], line: Line) -> tuple[str, str, str, str]:
    level = line.level.name.lower() + (f"; {line.unless}" if line.unless else "")
    return (code(event.event), level, codes(names_of(event)), first_sentence(event.__doc__))
