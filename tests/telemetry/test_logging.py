from __future__ import annotations

import asyncio
import logging
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from sidecar.domain.secret import Secret
from sidecar.telemetry.logging import Level, Log, name_error
from sidecar.telemetry.output import adopt_library_loggers
from tests.support.lines import KeptLines

CANARY = "canary-5f1e"
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJjYW5hcnkifQ.c2lnbmF0dXJl"


@pytest.fixture
def sink() -> KeptLines:
    return KeptLines()


@pytest.fixture
def library_loggers(sink: KeptLines) -> Iterator[None]:
    root = logging.getLogger()
    former = root.handlers[:], root.level, logging.raiseExceptions, logging.lastResort
    adopt_library_loggers(Log(sink))
    yield
    logging.captureWarnings(capture=False)
    root.handlers[:], level, logging.raiseExceptions, logging.lastResort = former
    root.setLevel(level)


def test_a_line_is_one_json_object_with_time_level_and_event_first(sink: KeptLines) -> None:
    """Any collector can read it, and a person finds the same three things at its head."""
    log = Log(sink, now=lambda: datetime(2026, 11, 23, 20, 15, 0, 5, tzinfo=UTC))

    log.write(Level.WARNING, "store.lost", {"error": "a\nb", "away_s": 1.5})

    head = b'{"timestamp":"2026-11-23T20:15:00.000005Z","level":"warning","event":"store.lost",'
    assert sink.text == head + b'"error":"a\\nb","away_s":1.5}\n'


def test_a_line_for_people_says_the_same_and_is_redacted_too(sink: KeptLines) -> None:
    """Whoever runs the sidecar by hand reads lines, and no more secrets than in production."""
    Log(sink, log_format="console").write(
        Level.INFO, "token.refreshed", {"grant": "g-1", "note": f"Bearer {CANARY}"}
    )

    assert b"token.refreshed" in sink.text
    assert b"grant=g-1" in sink.text
    assert CANARY.encode() not in sink.text


@pytest.mark.parametrize("log_format", ["json", "console"])
@pytest.mark.parametrize("level", list(Level))
def test_a_secret_is_masked_at_every_level(log_format: str, level: Level) -> None:
    """Turning debug on in a bad hour shows no token."""
    sink = KeptLines()
    log = Log(
        sink,
        least=Level.DEBUG,
        log_format="console" if log_format == "console" else "json",
    )

    log.write(
        level,
        "x.happened",
        {"a": JWT, "b": {"c": [JWT]}, "refresh_token": CANARY, "d": Secret(CANARY), "e": (JWT,)},
    )

    assert b"x.happened" in sink.text
    assert CANARY.encode() not in sink.text
    assert b"eyJ" not in sink.text


@pytest.mark.usefixtures("library_loggers")
def test_what_a_library_logs_keeps_its_constant_part_and_the_place_of_the_error(
    sink: KeptLines,
) -> None:
    """An error inside a library is seen and can be found, without the values it was about."""
    try:
        int(CANARY)
    except ValueError:
        logging.getLogger("aiohttp.server").exception("Error handling request from %s", CANARY)

    (line,) = sink.lines
    assert line["event"] == "library.logged"
    assert (line["level"], line["logger"]) == ("error", "aiohttp.server")
    assert line["message"] == "Error handling request from %s"
    assert str(line["error"]).startswith("ValueError at test_logging.py:")
    assert CANARY.encode() not in sink.text


@pytest.mark.usefixtures("library_loggers")
async def test_a_forgotten_task_is_told_without_its_exception(sink: KeptLines) -> None:
    """The loop prints the repr of a task and of its exception; neither reaches a line."""
    loop = asyncio.get_running_loop()

    loop.call_exception_handler(
        {
            "message": f"Task exception was never retrieved\n{CANARY} <Task {CANARY}>",
            "exception": RuntimeError(CANARY),
        }
    )

    (line,) = sink.lines
    assert line["message"] == "Task exception was never retrieved"
    assert line["error"] == "RuntimeError"
    assert CANARY.encode() not in sink.text


@pytest.mark.usefixtures("library_loggers")
def test_chatter_of_libraries_stays_off_and_warnings_come_as_lines(sink: KeptLines) -> None:
    """The canonical lines are not drowned, and nothing is printed past the log."""
    logging.getLogger("redis").info("connected to %s", CANARY)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn(f"{CANARY}: old", DeprecationWarning, stacklevel=1)

    assert [line["logger"] for line in sink.lines] == ["py.warnings"]
    assert CANARY.encode() not in sink.text


def test_the_name_of_an_error_holds_no_message() -> None:
    """A message may quote what it could not parse; the class and the place never do."""
    assert name_error(ValueError(CANARY)) == "ValueError"
