"""Each variable in words: what it accepts, its default, its meaning; for the reference.

It reads the fields of `Settings` and decides no wording of a page.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Final

from sidecar.domain.secret import Secret
from sidecar.settings.forms import MEANING, Between, Form
from sidecar.settings.loading import is_from_file, variable_of
from sidecar.settings.model import SECTIONS, Settings
from sidecar.settings.reading import REQUIRED, choices_of, kind_of, marks_of

SPOKEN_DEFAULTS: Final = {
    "refresh_lead_s": "auto",
    "brake_limit": "auto",
    "socket_mode": "0600",
    "methods": "GET,POST",
    "redis_url": "redis://127.0.0.1:6379/0",
}
"""Defaults that the value itself does not tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """One variable of the environment.

    Attributes:
        accepts: What its text may be, in Markdown.
        default: Its default as one would write it, or ``""``.
        is_from_file: Whether ``<name>_FILE`` may stand for it.
    """

    name: str
    section: str
    accepts: str
    default: str
    meaning: str
    is_required: bool
    is_from_file: bool


def variables() -> Iterator[Variable]:
    """Yield every variable in the order of the reference."""
    section = ""
    for each in fields(Settings):
        section = SECTIONS.get(each.name, section)
        is_required = each.name in REQUIRED
        yield Variable(
            name=variable_of(each.name),
            section=section,
            accepts=_accepts(each.name),
            default="" if is_required else _default(each.name, each.default),
            meaning=each.metadata[MEANING],
            is_required=is_required,
            is_from_file=is_from_file(each.name),
        )


def _default(name: str, value: object) -> str:
    if name in SPOKEN_DEFAULTS:
        return SPOKEN_DEFAULTS[name]
    match value:
        case None | () | Secret():
            return ""
        case bool():
            return str(value).lower()
        case float():
            return f"{value:.10g}"
        case _:
            return str(value)


def _accepts(name: str) -> str:
    for mark in marks_of(name):
        if isinstance(mark, Form):
            return mark.text
        if isinstance(mark, Between):
            noun = "whole number" if kind_of(name) is int else "number"
            to_high = "" if mark.high is None else f" to {mark.high}"
            return f"{noun} from {mark.low}{to_high}"
    if choices := choices_of(name):
        return ", ".join(f"`{choice}`" for choice in choices)
    return "`true` or `false`"
