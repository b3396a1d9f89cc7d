"""Hands grants over by the thousand: one line of JSON each, one call each, in the order they stand.

A line that fails is reported and the next one goes on; the same lines may be sent again, since a
pair that is stored already changes nothing. No report repeats a line: it holds tokens.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, cast, final
from urllib.parse import quote

from sidecar.console.control import Control, Reply, Unreachable

OWNER: Final = ("user", "provider")
CREATED: Final = 201
UNAUTHORIZED: Final = 401
KEY_REFUSED: Final = "control_key_invalid"

FIRST_WAIT_S: Final = 1.0
LONGEST_WAIT_S: Final = 30.0

UNREADABLE: Final = "the line is no JSON object"
OWNERLESS: Final = "`user` and `provider` must be texts that are not empty"

Pause = Callable[[float], None]
"""Waits for so many seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A line that is not stored.

    Attributes:
        line: Its number, from 1.
        owner: Whose grant it is, as ``user at provider``, or ``""``.
        reason: As the sidecar says it; ``line_invalid`` where it was not asked.
    """

    line: int
    owner: str
    reason: str
    detail: str

    def __str__(self) -> str:
        whose = f" ({self.owner})" if self.owner else ""
        return f"line {self.line}{whose}: {self.reason}: {self.detail}"

    def document(self) -> dict[str, object]:
        """Return the failure for programs."""
        return {
            "line": self.line,
            "owner": self.owner or None,
            "reason": self.reason,
            "detail": self.detail,
        }


@dataclass(slots=True, kw_only=True)
class Tally:
    """What came of the lines so far.

    Attributes:
        created: Grants that were new.
        kept: Grants that were replaced, or held this very pair.
        stopped_by: Why the rest was not tried, or ``""``.
    """

    lines: int = 0
    created: int = 0
    kept: int = 0
    failures: list[Failure] = field(default_factory=list[Failure])
    stopped_by: str = ""

    def document(self) -> dict[str, object]:
        """Return the tally for programs."""
        return {
            "lines": self.lines,
            "created": self.created,
            "kept": self.kept,
            "failed": len(self.failures),
            "stopped_by": self.stopped_by or None,
            "failures": [failure.document() for failure in self.failures],
        }


class KeyRefused(Exception):
    """The sidecar does not know the key: no line would fare better."""


@final
class Importer:
    """Sends lines to one control listener."""

    def __init__(
        self, control: Control, *, pause: Pause, patience_s: float, is_replacing: bool
    ) -> None:
        """Send nothing yet.

        Args:
            control: Who is asked.
            pause: Waits before a line is repeated.
            patience_s: How long one line is repeated while the sidecar says that it cannot now,
                or does not answer.
            is_replacing: Whether a live grant may be replaced by a line that is not newer.
        """
        self._control = control
        self._pause = pause
        self._patience_s = patience_s
        self._query = {"replace": "true"} if is_replacing else {}

    def run(self, lines: Iterable[bytes]) -> Iterator[Tally]:
        """Send every line; yield the one tally, brought up to date, after each.

        Empty lines are passed over. Ends early where nobody answers for the whole of the patience.

        Raises:
            KeyRefused: At the first line.
        """
        tally = Tally()
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            tally.lines += 1
            try:
                self._send(tally, number, line)
            except Unreachable as away:
                tally.stopped_by = f"no answer at line {number} ({away})"
                yield tally
                return
            yield tally

    def _send(self, tally: Tally, number: int, line: bytes) -> None:
        members = _members(line)
        if isinstance(members, str):
            tally.failures.append(
                Failure(line=number, owner="", reason="line_invalid", detail=members)
            )
            return
        reply = self._put(members)
        if reply.status == UNAUTHORIZED and reply.reason == KEY_REFUSED:
            raise KeyRefused
        if reply.is_refusal:
            tally.failures.append(
                Failure(
                    line=number,
                    owner=f"{members['user']} at {members['provider']}",
                    reason=reply.reason or f"status {reply.status}",
                    detail=reply.sentence,
                )
            )
        elif reply.status == CREATED:
            tally.created += 1
        else:
            tally.kept += 1

    def _put(self, members: dict[str, Any]) -> Reply:
        """Store one grant, again and again as long as that may help.

        Raises:
            Unreachable: Nobody answered until the patience was over.
        """
        path = f"/grants/{quote(members['provider'], safe='')}/{quote(members['user'], safe='')}"
        body = {name: value for name, value in members.items() if name not in OWNER}
        waited_s, wait_s = 0.0, FIRST_WAIT_S
        while True:
            reply: Reply | None = None
            try:
                reply = self._control.ask("PUT", path, query=self._query, body=body)
            except Unreachable:
                if waited_s >= self._patience_s:
                    raise
            if reply is not None and not (reply.may_pass and waited_s < self._patience_s):
                return reply
            told_s = None if reply is None else reply.retry_after_s
            pause_s = min(LONGEST_WAIT_S, wait_s if told_s is None else told_s)
            self._pause(pause_s)
            waited_s += pause_s
            wait_s = 2 * wait_s


def _members(line: bytes) -> dict[str, Any] | str:
    """Return what a line says, or what is wrong with it."""
    try:
        found = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return UNREADABLE
    if not isinstance(found, dict):
        return UNREADABLE
    members = cast("dict[str, Any]", found)
    if not all(isinstance(members.get(name), str) and members[name] for name in OWNER):
        return OWNERLESS
    return members
