"""What `doctor` finds: a value for each thing it looked at, for people and for programs.

It does not know how anything is found out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from sidecar.console.tables import plain


class Area(StrEnum):
    """What a finding is about."""

    CONFIGURATION = "configuration"
    SPOOL = "spool"
    STORE = "store"
    KEYS = "keys"
    AKOYA = "akoya"
    DATA = "data"


class Verdict(StrEnum):
    """What is thought of it."""

    GOOD = "good"
    """As it should be."""
    UNSEEN = "unseen"
    """It could not be seen, because something else stands in the way or nothing tells."""
    RISKY = "risky"
    """It works until the day it matters."""
    WRONG = "wrong"
    """A sidecar does not start with it, or not do its work."""


TROUBLES: Final = frozenset({Verdict.RISKY, Verdict.WRONG})
_WIDTHS: Final = (
    max(len(verdict) for verdict in Verdict),
    max(len(area) for area in Area),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        subject: What it is, by the name it has where it is changed; with `area` unique and stable.
        found: What was found; repeats no secret.
        advice: What to do; empty where nothing is to be done.
    """

    area: Area
    subject: str
    verdict: Verdict
    found: str
    advice: str = ""

    def document(self) -> dict[str, str]:
        """Return the finding for programs."""
        return {
            "area": self.area.value,
            "subject": self.subject,
            "verdict": self.verdict.value,
            "found": self.found,
            "advice": self.advice,
        }


def are_good(findings: Sequence[Finding]) -> bool:
    """Whether nothing of it needs a person."""
    return not any(finding.verdict in TROUBLES for finding in findings)


def to_lines(findings: Sequence[Finding]) -> str:
    """Return the findings for a terminal: a line each, and below it what to do."""
    lines: list[str] = []
    for finding in findings:
        head = f"{finding.verdict.value:{_WIDTHS[0]}}  {finding.area.value:{_WIDTHS[1]}}"
        lines.append(plain(f"{head}  {finding.subject}: {finding.found}"))
        if finding.advice:
            lines.append(plain(f"{'':{sum(_WIDTHS) + 4}}-> {finding.advice}"))
    return "".join(f"{line}\n" for line in lines)
