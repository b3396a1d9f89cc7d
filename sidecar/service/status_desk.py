"""Makes the account of how a sidecar is: what its parts say of themselves, in words for people.

It asks nobody over a network and changes nothing, so it may be asked at any time.
"""

from __future__ import annotations

from typing import final

from sidecar.domain.failure import HINTS
from sidecar.domain.store_trouble import TROUBLE_HINTS
from sidecar.ports import Clock
from sidecar.service.health import Health, HealthReport, Phase
from sidecar.service.lane import ClaimLane
from sidecar.service.status import Check, CheckName, Mood, Status
from sidecar.service.status_board import Notes, StatusBoard


@final
class StatusDesk:
    """Implements `sidecar.service.status.StatusSource`."""

    def __init__(
        self, *, version: str, health: Health, board: StatusBoard, lane: ClaimLane, clock: Clock
    ) -> None:
        self._version = version
        self._health = health
        self._board = board
        self._lane = lane
        self._clock = clock

    def status(self) -> Status:
        """Return the state of this moment."""
        report, notes = self._health.report(), self._board.notes()
        return Status(
            version=self._version,
            phase=report.phase,
            at_s=self._clock.now_s(),
            checks=(
                _process(report),
                _store(report),
                _akoya(notes, now_s=self._clock.now_s()),
                _credentials(report, notes),
                _banks(notes),
                _brake(report, notes),
                _spool(report, notes, now_s=self._clock.now_s()),
                _claims(self._lane.running),
            ),
            grants=notes.grants,
            counted_at_s=notes.counted_at_s,
            troubles=notes.troubles,
        )


def _process(report: HealthReport) -> Check:
    is_serving = report.phase is Phase.SERVING
    return Check(
        name=CheckName.PROCESS,
        mood=Mood.GOOD if is_serving else Mood.WAITING,
        said=report.phase.value,
        hint="" if is_serving else "New requests are answered by other sidecars meanwhile.",
    )


def _store(report: HealthReport) -> Check:
    trouble = report.store_trouble
    if report.store_up and trouble is None:
        return Check(name=CheckName.STORE, mood=Mood.GOOD, said="it answers")
    why = "" if trouble is None else f": {trouble.value}"
    hint = "" if trouble is None else f" {TROUBLE_HINTS[trouble]}"
    if report.store_up:
        return Check(
            name=CheckName.STORE,
            mood=Mood.BAD,
            said=f"it answers, but not every call{why}",
            hint=f"Some calls of Redis fail or wait.{hint}",
        )
    return Check(
        name=CheckName.STORE,
        mood=Mood.BAD,
        said=f"no answer{why}",
        hint="Redis is away: tokens are served from memory until they expire, and nothing is "
        f"refreshed.{hint} `akoya-sidecar doctor` says more.",
    )


def _akoya(notes: Notes, *, now_s: float) -> Check:
    if notes.unheard is not None:
        return Check(
            name=CheckName.AKOYA,
            mood=Mood.BAD,
            said=f"the last token request: {notes.unheard.value}",
            hint=HINTS[notes.unheard],
        )
    if not notes.heard_at_s:
        return Check(
            name=CheckName.AKOYA,
            mood=Mood.WAITING,
            said="not asked yet",
            hint="No token request was made since the start.",
        )
    return Check(
        name=CheckName.AKOYA,
        mood=Mood.GOOD,
        said=f"answered {to_span(now_s - notes.heard_at_s)} ago",
    )


def _credentials(report: HealthReport, notes: Notes) -> Check:
    if not report.breaker_open:
        return Check(name=CheckName.CREDENTIALS, mood=Mood.GOOD, said="not refused")
    said = "refused" if notes.refused is None else f"refused: {notes.refused.value}"
    return Check(
        name=CheckName.CREDENTIALS,
        mood=Mood.BAD,
        said=f"{said}; token requests of the fleet stop but for one at a time",
        hint="Check the client id, its secret and the environment."
        if notes.refused is None
        else HINTS[notes.refused],
    )


def _banks(notes: Notes) -> Check:
    if not notes.banks:
        return Check(name=CheckName.BANKS, mood=Mood.GOOD, said="none is held back")
    held = ", ".join(f"{bank} ({reason.value})" for bank, reason in sorted(notes.banks.items()))
    return Check(
        name=CheckName.BANKS,
        mood=Mood.BAD,
        said=held,
        hint="The token requests of these banks fail; only their refreshes stop, but for one at a "
        "time, and go on by themselves. Ask Akoya how the bank is.",
    )


def _brake(report: HealthReport, notes: Notes) -> Check:
    if not report.brake_on:
        return Check(name=CheckName.BRAKE, mood=Mood.GOOD, said="off")
    return Check(
        name=CheckName.BRAKE,
        mood=Mood.BAD,
        said="on" if notes.braked is None else f"on, because of {notes.braked.value}",
        hint="Too many users seemed to lose their consent at once, so the fleet refreshes nobody. "
        "Look first at what made it so: `akoya-sidecar brake show` says more, and `akoya-sidecar "
        "brake release` lets some grants go.",
    )


def _spool(report: HealthReport, notes: Notes, *, now_s: float) -> Check:
    held = f"{report.parked} pairs only here, {notes.spooled} kept"
    if not report.spool_writable:
        return Check(
            name=CheckName.SPOOL,
            mood=Mood.BAD,
            said=f"cannot be written; {held}",
            hint="No refresh may leave without it: make room on the disk of SIDECAR_SPOOL_DIR, or "
            "mend its rights.",
        )
    if not report.parked:
        return Check(name=CheckName.SPOOL, mood=Mood.GOOD, said=held)
    since = ""
    if notes.oldest_parked_at_s:
        since = f", the oldest for {to_span(now_s - notes.oldest_parked_at_s)}"
    return Check(
        name=CheckName.SPOOL,
        mood=Mood.WAITING,
        said=f"{held}{since}",
        hint="They reach the store as soon as it takes them; keep this disk until then.",
    )


def _claims(running: int) -> Check:
    return Check(name=CheckName.CLAIMS, mood=Mood.GOOD, said=f"{running} in flight")


def to_span(span_s: float) -> str:
    """Return a span in the largest unit that fits, as ``5 min``."""
    for unit_s, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if span_s >= unit_s:
            return f"{span_s // unit_s:.0f} {unit}"
    return f"{max(0.0, span_s):.0f} s"
