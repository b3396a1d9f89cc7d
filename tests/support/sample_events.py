"""One event of every kind, with a value in every field."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Final, Union, cast, get_args, get_origin, get_type_hints

from sidecar.domain.events import Event
from sidecar.domain.failure import Disposition, FailureReason, Operation
from sidecar.domain.tokens import TokenFailure

EVENT_TYPES: Final[tuple[type[Event], ...]] = get_args(Event)

FAILURE: Final = TokenFailure(
    operation=Operation.REFRESH,
    reason=FailureReason.REFRESH_TOKEN_CLAIMED,
    akoya_status=400,
    akoya_error="invalid_request",
    disposition=Disposition.IN_DOUBT,
)

_PLAIN: Final[Mapping[object, object]] = {
    str: "text",
    int: 200,
    float: 0.25,
    bool: True,
    TokenFailure: FAILURE,
}


def sample(event: type[Event], **changes: object) -> Event:
    """Return an event of this type; of each enum the last member, `changes` apart."""
    hints = get_type_hints(event)
    values = {field.name: _value(hints[field.name]) for field in dataclasses.fields(event)}
    make = cast("Callable[..., Event]", event)
    return make(**(values | changes))


def _value(hint: object) -> object:
    if get_origin(hint) in (types.UnionType, Union):
        hint = next(part for part in get_args(hint) if part is not type(None))
    hint = getattr(hint, "__supertype__", hint)
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return list(hint)[-1]
    return _PLAIN[hint]
