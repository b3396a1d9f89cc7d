"""Each variable in words: what it accepts, its default, its meaning; for the reference.

It reads the fields of `Settings` and decides no wording of a page.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, get_args, get_origin

from annotated_types import Ge, Le
from pydantic.fields import FieldInfo

from sidecar.domain.secret import Secret
from sidecar.settings.forms import Form
from sidecar.settings.loading import is_from_file, variable_of
from sidecar.settings.model import SECTIONS, Settings

SPOKEN_DEFAULTS: Final = {
    "refresh_lead_s": "auto",
    "brake_limit": "auto",
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
    for field, info in Settings.model_fields.items():
        section = SECTIONS.get(field, section)
        yield Variable(
            name=variable_of(field),
            section=section,
            accepts=_accepts(info),
            default=_default(field, info),
            meaning=info.description or "",
            is_required=info.is_required(),
            is_from_file=is_from_file(field),
        )


def _default(field: str, info: FieldInfo) -> str:
    if field in SPOKEN_DEFAULTS:
        return SPOKEN_DEFAULTS[field]
    if info.is_required():
        return ""
    if field == "socket_mode":
        return f"0{info.default:o}"
    if field == "methods":
        return ",".join(info.default)
    match info.default:
        case None | () | Secret():
            return ""
        case bool(value):
            return str(value).lower()
        case float(value):
            return f"{value:.10g}"
        case value:
            return str(value)


def _accepts(info: FieldInfo) -> str:
    for mark in _marks(info):
        if isinstance(mark, Form):
            return mark.text
    if get_origin(info.annotation) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(info.annotation))
    if info.annotation is bool:
        return "`true` or `false`"
    return _bounds(info)


def _bounds(info: FieldInfo) -> str:
    noun = "whole number" if info.annotation is int else "number"
    low = next((mark.ge for mark in info.metadata if isinstance(mark, Ge)), None)
    high = next((mark.le for mark in info.metadata if isinstance(mark, Le)), None)
    from_low = "" if low is None else f" from {low}"
    return f"{noun}{from_low}" + ("" if high is None else f" to {high}")


def _marks(info: FieldInfo) -> Iterator[object]:
    yield from info.metadata
    for part in get_args(info.annotation):
        yield from getattr(part, "__metadata__", ())
