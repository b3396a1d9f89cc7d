"""What the parsers of variables share: refusing a text, and saying what they accept.

A refusal never repeats the text, since the text may be a secret.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

VISIBLE: Final = re.compile(r"[\x21-\x7e]+")
"""ASCII without spaces and control characters."""
MEANING: Final = "meaning"


class FromFile:
    """Marks a secret: its variable may be given as ``<name>_FILE``."""


FROM_FILE: Final = FromFile()


@dataclass(frozen=True, slots=True)
class Form:
    """Says in a few words, for the reference, what a variable accepts."""

    text: str


@dataclass(frozen=True, slots=True)
class Parser:
    """How the text of a field becomes its value; raises `Refused`."""

    parse: Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Between:
    """Bounds of a number, both included."""

    low: float
    high: float | None = None


class Refused(Exception):
    """A text is not what its variable accepts; `str` of it says what is, and never the text."""


def meaning(sentence: str) -> Mapping[str, str]:
    """Return the metadata of a field that means `sentence`."""
    return {MEANING: sentence}


def refuse_repeats(values: Iterable[object], sentence: str) -> None:
    """Raise `Refused` of `sentence` if two of `values` are equal."""
    listed = list(values)
    if len(set(listed)) < len(listed):
        raise Refused(sentence)
