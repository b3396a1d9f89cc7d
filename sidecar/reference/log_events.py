"""The page of log events: name, level, fields, meaning.

It decides wording only; the lines are `sidecar.telemetry.lines`', the meanings stand with the
events.
"""

from __future__ import annotations

from sidecar.domain.events import Event
from sidecar.domain.store_trouble import TROUBLE_HINTS, StoreTrouble
from sidecar.reference.tables import code, codes, first_sentence, heading, table
from sidecar.telemetry.line_writer import ORDINARY, RESERVE
from sidecar.telemetry.lines import LINES, Line, names_of
from sidecar.telemetry.logging import LINES_DROPPED, LINES_REPEATED

_ABOUT_LASTING = (
    "## A state that lasts\n",
    (
        "If an event has an entry under *once for each*, its line is written when that state "
        "begins or changes, and not at each poll, retry, or request while it lasts. The "
        "metrics count each.\n"
        "`repeated` in a line says how many lines of the state before it were left out. "
        f"`{LINES_REPEATED}` says so for states that are over: `of` (the event), `states` (how "
        "many), and `lines` (how many lines were left out).\n"
        "A state of a grant is over with its next `token.refreshed`, `token.obtained`, or "
        "`grant.revoked`, and any state after half an hour without news of it.\n"
    ),
)

_ABOUT_DROPPED = (
    "## Lines that are dropped\n",
    (
        "The sidecar never waits for its log. If stdout takes no more, up to "
        f"{ORDINARY.lines} ordinary lines ({ORDINARY.size_bytes >> 20} MiB) wait in memory, "
        "and new ones are dropped and counted in `sidecar_log_lines_dropped_total`. Lines from "
        "`warning` on, and those of start, stop, and recovery, have room of their own "
        f"({RESERVE.lines} lines, {RESERVE.size_bytes >> 20} MiB).\n"
        f"Once lines can be written again, `{LINES_DROPPED}` says how many `lines` are missing "
        "before it.\n"
        "The end of the process spends a second at most on lines that are not written yet. A "
        "process that is killed (SIGKILL) loses those of its last 50 ms; a line from `warning` "
        "on is written at once.\n"
    ),
)

_ABOUT_LIBRARIES = (
    "## Libraries\n",
    (
        "What libraries log, from `warning` on, comes as `library.logged` with `logger`, "
        "`message` (its constant part only) and `error` (class and place of an exception, "
        "never its message); once while the same is said again.\n"
        "What a library prints to stdout or stderr, warnings, and exceptions that no one "
        "caught come in the same form.\n"
        "Only why a process could not start or go on is written to stderr, as text for people.\n"
    ),
)


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
        table(
            ("event", "level", "once for each", "fields", "meaning"),
            map(_row, LINES, LINES.values()),
        ),
        "## Trouble with the store\n",
        (
            "`store.lost` and `store.strained` have one of these causes, and so has "
            "`sidecar_store_troubles_total`.\n"
        ),
        table(("cause", "what to do"), _troubles()),
        *_ABOUT_LASTING,
        *_ABOUT_DROPPED,
        *_ABOUT_LIBRARIES,
    ]
    return "\n".join(parts)


def _troubles() -> list[tuple[str, str]]:
    return [(code(cause), TROUBLE_HINTS[cause]) for cause in StoreTrouble]


def _row(event: type[Event], line: Line) -> tuple[str, ...]:
    level = line.level.name.lower() + (f"; {line.unless}" if line.unless else "")
    return (
        code(event.event),
        level,
        line.once,
        codes(names_of(event)),
        first_sentence(event.__doc__),
    )
