"""What each call of the grants API takes: names, places, forms, and the rule that is told.

The calls read their input with the rules of this list, and the OpenAPI document is made of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from sidecar.domain.bounds import LONGEST_TOLD_LIFE_S
from sidecar.domain.brake_trial import MOST_LIMIT, USUAL_LIMIT
from sidecar.domain.connecting import ACCOUNT_MAX_CHARACTERS
from sidecar.domain.grant_input import (
    CODE_MAX_BYTES,
    ID_TOKEN_MAX_BYTES,
    REDIRECT_URI_MAX_BYTES,
    REFRESH_TOKEN_MAX_BYTES,
    STATE_MAX_CHARACTERS,
    STATE_MIN_CHARACTERS,
)
from sidecar.domain.record import PUBLIC_STATES
from sidecar.domain.return_targets import RETURN_TO_MAX_CHARACTERS
from sidecar.http.control_routes import PROVIDER_RULE, USER_RULE, Route

PAGE_DEFAULT: Final = 100
PAGE_MAX: Final = 1000
CURSOR_MAX: Final = 512

CODE_RULE: Final = "visible ASCII characters, at most 4096"
CONSENTED_AT_RULE: Final = "an RFC 3339 instant, at most 5 minutes from now"
CURSOR_RULE: Final = "none that this call gave"
ID_TOKEN_RULE: Final = "visible ASCII characters, at most 16 KiB"  # noqa: S105 - a rule
REDIRECT_RULE: Final = "an absolute URI without a fragment"
REFRESH_TOKEN_RULE: Final = "visible characters, at most 8 KiB"  # noqa: S105 - a rule
SPAN_RULE: Final = "a number of seconds"
FLAG_RULE: Final = "true or false"
RELEASE_RULE: Final = f"a whole number from 1 to {MOST_LIMIT}"
EXPECTED_RULE: Final = "goes with all: how many grants are in doubt, as `GET /brake` shows"
RETURN_RULE: Final = "a URL that SIDECAR_CONNECT_RETURN_TO allows, without a parameter outcome"
ACCOUNT_RULE: Final = "1 to 100 printable characters"
STATE_RULE: Final = "8 to 512 visible ASCII characters that nobody can guess"
STATES_RULE: Final = ", ".join(sorted(PUBLIC_STATES))
LIMIT_RULE: Final = f"a number from 1 to {PAGE_MAX}"

VISIBLE: Final = "^[!-~]+$"


class Place(StrEnum):
    """Where a call brings it."""

    PATH = "path"
    QUERY = "query"
    BODY = "body"


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """One thing that a call takes.

    Attributes:
        rule: What is told to whoever breaks it.
        schema: As much of the rule as JSON Schema can say.
        is_required: Whether the call is refused without it.
    """

    name: str
    place: Place
    rule: str
    schema: Mapping[str, object]
    is_required: bool = False


def _text(**limits: object) -> Mapping[str, object]:
    return MappingProxyType({"type": "string", **limits})


_PROVIDER: Final = _text(pattern="^[A-Za-z0-9._~-]{1,128}$")
_USER: Final = _text(pattern="^[!-~]{1,255}$")
_REDIRECT: Final = _text(format="uri", maxLength=REDIRECT_URI_MAX_BYTES)
_BOOLEAN: Final = MappingProxyType({"type": "boolean", "default": False})

_OWNER: Final = (
    Input(
        name="provider", place=Place.PATH, rule=PROVIDER_RULE, schema=_PROVIDER, is_required=True
    ),
    Input(name="user", place=Place.PATH, rule=USER_RULE, schema=_USER, is_required=True),
)
_OWNER_IN_BODY: Final = tuple(replace(each, place=Place.BODY) for each in reversed(_OWNER))
_PAGE: Final = (
    Input(name="cursor", place=Place.QUERY, rule=CURSOR_RULE, schema=_text(maxLength=CURSOR_MAX)),
    Input(
        name="limit",
        place=Place.QUERY,
        rule=LIMIT_RULE,
        schema=MappingProxyType(
            {"type": "integer", "minimum": 1, "maximum": PAGE_MAX, "default": PAGE_DEFAULT}
        ),
    ),
)

INPUTS: Final[Mapping[Route, tuple[Input, ...]]] = {
    Route.OBTAIN: (
        *_OWNER_IN_BODY,
        Input(
            name="code",
            place=Place.BODY,
            rule=CODE_RULE,
            schema=_text(pattern=VISIBLE, maxLength=CODE_MAX_BYTES, writeOnly=True),
            is_required=True,
        ),
        Input(name="redirect_uri", place=Place.BODY, rule=REDIRECT_RULE, schema=_REDIRECT),
    ),
    Route.LIST: (
        Input(
            name="state", place=Place.QUERY, rule=STATES_RULE, schema=_text(enum=[*PUBLIC_STATES])
        ),
        Input(name="user", place=Place.QUERY, rule=USER_RULE, schema=_USER),
        Input(name="provider", place=Place.QUERY, rule=PROVIDER_RULE, schema=_PROVIDER),
        *_PAGE,
    ),
    Route.READ: _OWNER,
    Route.TAKE_OVER: (
        *_OWNER,
        Input(name="replace", place=Place.QUERY, rule=FLAG_RULE, schema=_BOOLEAN),
        Input(
            name="id_token",
            place=Place.BODY,
            rule=ID_TOKEN_RULE,
            schema=_text(pattern=VISIBLE, maxLength=ID_TOKEN_MAX_BYTES, writeOnly=True),
            is_required=True,
        ),
        Input(
            name="refresh_token",
            place=Place.BODY,
            rule=REFRESH_TOKEN_RULE,
            schema=_text(minLength=1, maxLength=REFRESH_TOKEN_MAX_BYTES, writeOnly=True),
            is_required=True,
        ),
        Input(
            name="expires_in",
            place=Place.BODY,
            rule=SPAN_RULE,
            schema=MappingProxyType(
                {"type": "number", "minimum": 0, "maximum": LONGEST_TOLD_LIFE_S}
            ),
        ),
        Input(
            name="consented_at",
            place=Place.BODY,
            rule=CONSENTED_AT_RULE,
            schema=_text(format="date-time"),
        ),
    ),
    Route.REVOKE: (
        *_OWNER,
        Input(name="purge", place=Place.QUERY, rule=FLAG_RULE, schema=_BOOLEAN),
    ),
    Route.REFRESH: (
        *_OWNER,
        Input(name="override_backoff", place=Place.QUERY, rule=FLAG_RULE, schema=_BOOLEAN),
    ),
    Route.INVALIDATE: _OWNER,
    Route.EVENTS: _PAGE,
    Route.BRAKE: (),
    Route.RELEASE_BRAKE: (
        Input(
            name="limit",
            place=Place.BODY,
            rule=RELEASE_RULE,
            schema=MappingProxyType(
                {"type": "integer", "minimum": 1, "maximum": MOST_LIMIT, "default": USUAL_LIMIT}
            ),
        ),
        Input(name="all", place=Place.BODY, rule=FLAG_RULE, schema=_BOOLEAN),
        Input(
            name="expected",
            place=Place.BODY,
            rule=EXPECTED_RULE,
            schema=MappingProxyType({"type": "integer", "minimum": 0}),
        ),
    ),
    Route.AUTHORIZE_URL: (
        Input(
            name="provider",
            place=Place.QUERY,
            rule=PROVIDER_RULE,
            schema=_PROVIDER,
            is_required=True,
        ),
        Input(
            name="state",
            place=Place.QUERY,
            rule=STATE_RULE,
            schema=_text(
                pattern=VISIBLE, minLength=STATE_MIN_CHARACTERS, maxLength=STATE_MAX_CHARACTERS
            ),
            is_required=True,
        ),
        Input(name="redirect_uri", place=Place.QUERY, rule=REDIRECT_RULE, schema=_REDIRECT),
    ),
    Route.CONNECT_LINK: (
        *_OWNER_IN_BODY,
        Input(
            name="return_to",
            place=Place.BODY,
            rule=RETURN_RULE,
            schema=_text(format="uri", maxLength=RETURN_TO_MAX_CHARACTERS),
            is_required=True,
        ),
        Input(
            name="account",
            place=Place.BODY,
            rule=ACCOUNT_RULE,
            schema=_text(minLength=1, maxLength=ACCOUNT_MAX_CHARACTERS),
        ),
    ),
    Route.STATUS: (),
    Route.STATUS_PAGE: (),
    Route.OPENAPI: (),
}
