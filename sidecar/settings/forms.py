"""What the parsers of variables share: refusing a text, and saying what they accept.

A refusal never repeats the text, since the text may be a secret.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from pydantic_core import PydanticCustomError

VISIBLE: Final = re.compile(r"[\x21-\x7e]+")
"""ASCII without spaces and control characters."""


class FromFile:
    """Marks a secret: its variable may be given as ``<name>_FILE``."""


FROM_FILE: Final = FromFile()


@dataclass(frozen=True, slots=True)
class Form:
    """Says in a few words, for the reference, what a variable accepts."""

    text: str


def refusal(sentence: str) -> PydanticCustomError:
    """Return the error that makes pydantic report exactly `sentence`."""
    return PydanticCustomError("shape", "{sentence}", {"sentence": sentence})


def text_of(value: object) -> str:
    """Return `value`, which must be text.

    Raises:
        PydanticCustomError: It is something else.
    """
    if not isinstance(value, str):
        raise refusal("must be text")
    return value


def refuse_repeats(values: Iterable[object], sentence: str) -> None:
    """Raise `refusal` of `sentence` if two of `values` are equal."""
    listed = list(values)
    if len(set(listed)) < len(listed):
        raise refusal(sentence)
