"""Reads what a call of the grants API brings: members of a JSON body, parameters of a query.

Strict, and all problems at once: an unknown or doubled name is one of them. No error repeats a
value, and of names only those that cannot be a token. It does not know the calls.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final, cast, final
from urllib.parse import parse_qsl

from sidecar.domain.grant_input import is_span
from sidecar.domain.secret import Secret
from sidecar.http.control_inputs import FLAG_RULE, SPAN_RULE
from sidecar.http.control_problems import FieldError

_SHOWABLE_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,31}")
_DIGITS: Final = re.compile(r"[0-9]{1,6}", re.ASCII)
_MAX_PARAMETERS: Final = 32
_MAX_ERRORS: Final = 32
_BODY: Final = "body"
_QUERY: Final = "query"


@final
class Fields:
    """Named values; each is taken by its name, and what nobody takes is an error.

    A value that is refused is noted and replaced by an empty one, so that reading goes on; look at
    `errors` before anything is done with what was read.
    """

    def __init__(self, values: Mapping[str, object], *, errors: Sequence[FieldError] = ()) -> None:
        self._values = dict(values)
        self._errors = list(errors)

    @property
    def errors(self) -> Sequence[FieldError]:
        """What is wrong, at most 32 of it, with what was not taken until now."""
        unknown = [FieldError(name=_showable(name), detail="unknown") for name in self._values]
        return (*self._errors, *unknown)[:_MAX_ERRORS]

    def text(self, name: str, *, accepts: Callable[[str], bool], rule: str) -> str:
        """Return a text that must be there."""
        text = self.optional_text(name, accepts=accepts, rule=f"required: {rule}")
        if text is None:
            self._refuse(name, f"required: {rule}")
        return text or ""

    def optional_text(self, name: str, *, accepts: Callable[[str], bool], rule: str) -> str | None:
        """Return a text, or ``None`` where there is none (JSON's null is none)."""
        value = self._values.pop(name, None)
        if value is None:
            return None
        if isinstance(value, str) and accepts(value):
            return value
        self._refuse(name, rule)
        return ""

    def secret(self, name: str, *, accepts: Callable[[str], bool], rule: str) -> Secret:
        """Return a text that must be there and must not be seen."""
        return Secret(self.text(name, accepts=accepts, rule=rule))

    def span(self, name: str) -> float | None:
        """Return a number of seconds, or ``None``."""
        value = self._values.pop(name, None)
        if value is None:
            return None
        if is_span(value):
            return float(cast("float", value))
        self._refuse(name, SPAN_RULE)
        return None

    def whole_number(self, name: str, *, within: range, rule: str) -> int | None:
        """Return a member that is a whole number within bounds, or ``None``."""
        value = self._values.pop(name, None)
        if value is None:
            return None
        if isinstance(value, int) and not isinstance(value, bool) and value in within:
            return value
        self._refuse(name, rule)
        return None

    def boolean(self, name: str) -> bool:
        """Return a member that is true or false; false where there is none."""
        value = self._values.pop(name, None)
        if value is None or isinstance(value, bool):
            return bool(value)
        self._refuse(name, FLAG_RULE)
        return False

    def flag(self, name: str) -> bool:
        """Return a parameter that is ``true`` or ``false``; false where there is none."""
        value = self._values.pop(name, "false")
        if value not in ("true", "false"):
            self._refuse(name, FLAG_RULE)
        return value == "true"

    def count(self, name: str, *, default: int, at_most: int) -> int:
        """Return a parameter that is a number from 1 up."""
        value = self._values.pop(name, str(default))
        if isinstance(value, str) and _DIGITS.fullmatch(value) and 1 <= int(value) <= at_most:
            return int(value)
        self._refuse(name, f"a number from 1 to {at_most}")
        return default

    def note(self, name: str, detail: str) -> None:
        """Note an error that shows only in the light of other values."""
        self._refuse(name, detail)

    def _refuse(self, name: str, detail: str) -> None:
        if all(error.name != name for error in self._errors):
            self._errors.append(FieldError(name=name, detail=detail))


def parse_query(query: str) -> Fields:
    """Return the parameters of a raw query."""
    try:
        pairs = parse_qsl(
            query,
            keep_blank_values=True,
            strict_parsing=bool(query),
            encoding="utf-8",
            errors="strict",
            max_num_fields=_MAX_PARAMETERS,
        )
    except ValueError:
        error = FieldError(name=_QUERY, detail="name=value pairs, percent-encoded UTF-8")
        return Fields({}, errors=(error,))
    return _fields(pairs)


def parse_object(body: bytes) -> Fields:
    """Return the members of a JSON object; of an empty body: none."""
    if not body:
        return Fields({})
    doubled: list[tuple[str, object]] = []

    def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
        doubled.extend(pair for pair in _doubled(pairs))
        return dict(pairs)

    try:
        document: object = json.loads(
            body.decode("utf-8"), object_pairs_hook=once, parse_constant=_no_constant
        )
    except (ValueError, RecursionError):
        return Fields({}, errors=(FieldError(name=_BODY, detail="a JSON object in UTF-8"),))
    if not isinstance(document, dict):
        return Fields({}, errors=(FieldError(name=_BODY, detail="a JSON object"),))
    return Fields(cast("dict[str, object]", document), errors=_twice(doubled))


def _fields(pairs: Sequence[tuple[str, object]]) -> Fields:
    return Fields(dict(pairs), errors=_twice(_doubled(pairs)))


def _doubled(pairs: Sequence[tuple[str, object]]) -> list[tuple[str, object]]:
    seen: set[str] = set()
    doubled: list[tuple[str, object]] = []
    for pair in pairs:
        if pair[0] in seen:
            doubled.append(pair)
        seen.add(pair[0])
    return doubled


def _twice(pairs: Sequence[tuple[str, object]]) -> Sequence[FieldError]:
    return tuple(FieldError(name=_showable(name), detail="given twice") for name, _ in pairs)


def _showable(name: str) -> str:
    return name if _SHOWABLE_NAME.fullmatch(name) else "(a name that is not shown)"


def _no_constant(text: str) -> float:
    """Refuse NaN and the infinities, which JSON does not have.

    Raises:
        ValueError: Always.
    """
    del text
    raise ValueError
