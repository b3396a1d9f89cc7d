"""How a field of `Settings` reads its text, found from its type: one rule for each kind of type.

What a text must look like stands with the type (see `values`, `keys`); nothing here knows a field
by name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, fields
from types import MappingProxyType
from typing import Annotated, Final, Literal, get_args, get_origin, get_type_hints

from sidecar.settings.forms import Between, Parser, Refused
from sidecar.settings.model import Settings

TRUE_TEXTS: Final = frozenset({"1", "on", "true", "yes"})
FALSE_TEXTS: Final = frozenset({"0", "off", "false", "no"})


def _without_none(hint: object) -> object:
    parts = [part for part in get_args(hint) if part is not type(None)]
    is_optional = type(None) in get_args(hint) and get_origin(hint) is not Annotated
    return parts[0] if is_optional else hint


HINTS: Final[Mapping[str, object]] = MappingProxyType(
    {
        name: _without_none(hint)
        for name, hint in get_type_hints(Settings, include_extras=True).items()
    }
)
"""The type of each field, what is annotated to it included."""

REQUIRED: Final = frozenset(
    field.name
    for field in fields(Settings)
    if field.default is MISSING and field.default_factory is MISSING
)


def marks_of(name: str) -> tuple[object, ...]:
    """Return what is annotated to the type of a field."""
    return tuple(getattr(HINTS[name], "__metadata__", ()))


def kind_of(name: str) -> object:
    """Return the bare type of a field."""
    hint = HINTS[name]
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def read(name: str, text: str) -> object:
    """Return the value of a field.

    Raises:
        Refused: The text is not what the field accepts.
    """
    for mark in marks_of(name):
        if isinstance(mark, Parser):
            return mark.parse(text)
        if isinstance(mark, Between):
            return _number(text, bounds=mark, is_whole=kind_of(name) is int)
    if kind_of(name) is bool:
        return _truth(text)
    return _choice(text, choices_of(name))


def choices_of(name: str) -> tuple[str, ...]:
    """Return the texts that a field chooses from; none if it is no choice."""
    kind = kind_of(name)
    return tuple(get_args(kind)) if get_origin(kind) is Literal else ()


def _choice(text: str, choices: tuple[str, ...]) -> str:
    if text in choices:
        return text
    quoted = [f"'{choice}'" for choice in choices]
    raise Refused(f"must be {', '.join(quoted[:-1])} or {quoted[-1]}")


def _truth(text: str) -> bool:
    lowered = text.lower()
    if lowered not in TRUE_TEXTS | FALSE_TEXTS:
        raise Refused("must be true or false")
    return lowered in TRUE_TEXTS


def _number(text: str, *, bounds: Between, is_whole: bool) -> float:
    try:
        number: float = int(text) if is_whole else float(text)
    except ValueError:
        raise Refused("must be a whole number" if is_whole else "must be a number") from None
    if not math.isfinite(number):
        raise Refused("must be a finite number")
    if number < bounds.low:
        raise Refused(f"must be greater than or equal to {bounds.low}")
    if bounds.high is not None and number > bounds.high:
        raise Refused(f"must be less than or equal to {bounds.high}")
    return number
