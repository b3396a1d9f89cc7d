"""Reads JSON that scripts send to the control paths into the values they stand for.

A wrong name or type is told by name, never passed over. It must not know HTTP.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from sidecar.sandbox.faults import Fault

if TYPE_CHECKING:
    from sidecar.sandbox.replies import Document
    from sidecar.sandbox.settings import SandboxSettings

_Check: TypeAlias = Callable[[object], bool]

TUNABLE: Final = (
    "id_token_life_s", "refresh_token_life_s", "code_life_s", "profile", "grace_s", "rate_limit",
    "race_error", "strict_auth", "id_token_honoured_s", "providers_down",
)  # fmt: skip


class InputError(ValueError):
    """The JSON is not what the path takes; the message says what is wrong and is for the sender."""


def read_object(raw: bytes) -> Document:
    """Read one JSON object; nothing at all is an empty one.

    Raises:
        InputError: it is something else.
    """
    value = _load(raw)
    if not isinstance(value, dict):
        raise InputError("the body must be a JSON object")
    return cast("Document", value)


def read_faults(raw: bytes) -> list[Fault]:
    """Read one fault or a list of them.

    Raises:
        InputError: one of them is not a fault; none is to be armed.
    """
    value = _load(raw)
    items = cast("list[object]", value) if isinstance(value, list) else [value]
    return [_fault(item) for item in items]


def text_of(document: Document, name: str, default: str | None = None) -> str:
    """Read a text member.

    Raises:
        InputError: it is missing without a default, or not a text.
    """
    value = document.get(name, default)
    if not isinstance(value, str) or not value:
        raise InputError(f"{name} must be a text")
    return value


def optional_text_of(document: Document, name: str) -> str | None:
    """Read a text member that may be missing.

    Raises:
        InputError: it is there and not a text.
    """
    return None if document.get(name) is None else text_of(document, name)


def tuned(settings: SandboxSettings, changes: Document) -> SandboxSettings:
    """Return the settings with those changed that may change while a sandbox runs.

    Raises:
        InputError: a name or a value is not allowed; nothing is changed.
    """
    unknown = sorted(set(changes) - set(TUNABLE))
    if unknown:
        raise InputError(f"cannot change {', '.join(unknown)}; can change {', '.join(TUNABLE)}")
    for name, value in changes.items():
        if not _fits(getattr(settings, name), value):
            raise InputError(f"{name} has the wrong type")
    values = {name: _unlisted(value) for name, value in changes.items()}
    try:
        return replace(settings, **cast("dict[str, Any]", values))
    except ValueError as error:
        raise InputError(str(error)) from error


def _fault(value: object) -> Fault:
    if not isinstance(value, dict):
        raise InputError("a fault must be a JSON object")
    members = dict(cast("Mapping[str, object]", value))
    unknown = sorted(set(members) - set(_FAULT_CHECKS))
    if unknown:
        raise InputError(f"a fault has no {', '.join(unknown)}")
    for required in ("operation", "kind"):
        if required not in members:
            raise InputError(f"a fault needs {required}")
    for name, given in members.items():
        if not _FAULT_CHECKS[name](given):
            raise InputError(f"{name} has the wrong type")
    if "fields" in members:
        members["fields"] = tuple(cast("list[str]", members["fields"]))
    try:
        return Fault(**cast("dict[str, Any]", members))
    except ValueError as error:
        raise InputError(str(error)) from error


def _load(raw: bytes) -> object:
    try:
        return cast("object", json.loads(raw or b"{}"))
    except ValueError as error:
        raise InputError("the body is not JSON") from error


def _fits(current: object, value: object) -> bool:
    match current:
        case bool():
            return isinstance(value, bool)
        case int() | float():
            return _is_number(value)
        case tuple():
            return _is_texts(value)
        case _:
            return isinstance(value, str)


def _unlisted(value: object) -> object:
    return tuple(cast("list[object]", value)) if isinstance(value, list) else value


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(item, str) for item in cast("list[object]", value)
    )


def _or_none(check: _Check) -> _Check:
    return lambda value: value is None or check(value)


_FAULT_CHECKS: Final[Mapping[str, _Check]] = {
    "operation": _is_text,
    "kind": _is_text,
    "times": _is_count,
    "chance": _is_number,
    "user": _or_none(_is_text),
    "provider": _or_none(_is_text),
    "delay_s": _is_number,
    "status": _or_none(_is_count),
    "retry_after_s": _or_none(_is_number),
    "after_bytes": _is_count,
    "framing": _or_none(_is_text),
    "beside": _is_text,
    "end": _is_text,
    "location": _is_text,
    "error": _is_text,
    "error_description": _or_none(_is_text),
    "body": _is_text,
    "content_type": _is_text,
    "fields": _is_texts,
}
