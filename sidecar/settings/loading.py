"""From an environment to `Settings`, or to everything that is wrong with it at once.

It resolves ``X_FILE``, finds unknown names and collects what the fields and the rules say; it
decides nothing about a single value.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Final, cast

from sidecar.domain.secret import LARGEST_SECRET_BYTES, FiledSecret, text_of_secret
from sidecar.settings.forms import FROM_FILE, Refused
from sidecar.settings.model import PREFIX, Settings
from sidecar.settings.reading import REQUIRED, marks_of, read
from sidecar.settings.rules import DEFAULTS, Problem, broken_rules

FILE_SUFFIX: Final = "_FILE"

_INJECTED: Final = re.compile(r"SIDECAR_(SERVICE_\w+|PORT(_\w+)?)")
"""What Kubernetes puts into every container for a Service named ``sidecar``."""


NAMES: Final = tuple(field.name for field in fields(Settings))


def variable_of(field: str) -> str:
    """Return the name of the variable behind a field."""
    return PREFIX + field.upper()


def is_from_file(field: str) -> bool:
    """Whether a field's variable may be given as ``<name>_FILE``."""
    return FROM_FILE in marks_of(field)


def load(environ: Mapping[str, str]) -> Settings | tuple[Problem, ...]:
    """Return the settings, or every problem, in the order of the reference.

    An empty value counts as not set. No problem repeats a value.
    """
    problems = list(_unknown_names(environ))
    texts: dict[str, str] = {}
    for field in NAMES:
        found = _text(field, environ)
        if isinstance(found, Problem):
            problems.append(found)
        elif found:
            texts[field] = found
    reported = {problem.variable.removesuffix(FILE_SUFFIX) for problem in problems}
    values, refused = _read_all(texts)
    problems += [problem for problem in refused if problem.variable not in reported]
    problems += broken_rules(texts)
    if problems:
        return tuple(sorted(problems, key=_place))
    for field, value in values.items():
        if isinstance(value, FiledSecret):
            file = environ.get(variable_of(field) + FILE_SUFFIX)
            values[field] = FiledSecret(value.secret, file or None)
    make = cast("Callable[..., Settings]", Settings)
    return make(**values)


def load_one(field: str, environ: Mapping[str, str]) -> object:
    """Return what one variable alone means, its default if it is not set, or its `Problem`.

    For commands that need no more of the settings of `run` than that.
    """
    text = _text(field, environ)
    if isinstance(text, Problem):
        return text
    if not text:
        if field in REQUIRED:
            return Problem(variable=variable_of(field), sentence="is required")
        return DEFAULTS[field]
    try:
        return read(field, text)
    except Refused as refused:
        return Problem(variable=variable_of(field), sentence=str(refused))


def _place(problem: Problem) -> tuple[int, str]:
    names = [variable_of(field) for field in NAMES]
    known = problem.variable in names
    return (names.index(problem.variable) if known else len(names), problem.variable)


def _read_all(texts: Mapping[str, str]) -> tuple[dict[str, object], list[Problem]]:
    values: dict[str, object] = {}
    problems: list[Problem] = []
    for field in NAMES:
        if field not in texts:
            if field in REQUIRED:
                problems.append(Problem(variable=variable_of(field), sentence="is required"))
            continue
        try:
            values[field] = read(field, texts[field])
        except Refused as refused:
            problems.append(Problem(variable=variable_of(field), sentence=str(refused)))
    return values, problems


def _text(field: str, environ: Mapping[str, str]) -> str | Problem:
    variable = variable_of(field)
    given = environ.get(variable, "")
    path = environ.get(variable + FILE_SUFFIX, "") if is_from_file(field) else ""
    if not path:
        return given
    if given:
        return Problem(variable=variable, sentence=f"is set and so is {variable}{FILE_SUFFIX}")
    try:
        with Path(path).open("rb") as file:
            text = text_of_secret(file.read(LARGEST_SECRET_BYTES + 1))
    except (OSError, ValueError):
        text = None
    if text is None:
        sentence = "names a file that is empty, too large or cannot be read"
        return Problem(variable=variable + FILE_SUFFIX, sentence=sentence)
    return text


def known_names() -> tuple[str, ...]:
    """Return every name that may be set, the ``_FILE`` ones included."""
    names: list[str] = []
    for field in NAMES:
        names.append(variable_of(field))
        if is_from_file(field):
            names.append(variable_of(field) + FILE_SUFFIX)
    return tuple(names)


def _unknown_names(environ: Mapping[str, str]) -> Iterator[Problem]:
    known = known_names()
    for name in environ:
        if not name.startswith(PREFIX) or name in known or _INJECTED.fullmatch(name):
            continue
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        yield Problem(variable=name, sentence=f"is no setting of the sidecar{hint}")
