"""The grants API as an OpenAPI 3.1 document, made from the tables that the calls use themselves.

What a call takes is `control_inputs`', what it is refused with `control_problems`', the shapes of
what it answers `openapi_schemas`'; here stand words.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Final

from sidecar import __version__
from sidecar.domain.failure import (
    OPERATION_REASONS,
    Operation,
)
from sidecar.http.control_inputs import INPUTS, Input, Place
from sidecar.http.control_problems import CONTROL_PROBLEMS, ControlReason, failure_statuses
from sidecar.http.control_routes import Route
from sidecar.http.openapi_schemas import GRANT, Schema, schemas

_EVERY_CALL: Final = (
    ControlReason.REQUEST_INVALID,
    ControlReason.PATH_INVALID,
    ControlReason.CONTROL_KEY_INVALID,
    ControlReason.NOT_FOUND,
    ControlReason.METHOD_NOT_ALLOWED,
    ControlReason.HEADERS_TOO_LARGE,
    ControlReason.INTERNAL_ERROR,
    ControlReason.OVERLOADED,
    ControlReason.DRAINING,
)
_WITH_BODY: Final = (ControlReason.REQUEST_TOO_LARGE, ControlReason.MEDIA_TYPE_UNSUPPORTED)

MEANINGS: Final[Mapping[Route, str]] = {
    Route.OBTAIN: "Exchange an authorization code and store the pair",
    Route.LIST: "Page through grants; each is seen at least once, in no order",
    Route.READ: "Show a grant, without its tokens",
    Route.TAKE_OVER: "Take over tokens that were obtained elsewhere",
    Route.REVOKE: "Revoke a grant at Akoya and here, or erase it",
    Route.REFRESH: "Replace a grant's pair now",
    Route.INVALIDATE: "Mark a grant dead without asking Akoya",
    Route.EVENTS: "Read changes of state after a cursor, the oldest first",
    Route.BRAKE: "Show how the mass-death brake of the fleet is, and how many grants it holds back",
    Route.RELEASE_BRAKE: "Let some grants go that the brake holds back, or all; 10 without a body",
    Route.AUTHORIZE_URL: "Return the URL to send an end user to",
    Route.CONNECT_LINK: "Make a link at which one end user can connect a bank",
    Route.STATUS: "Show how this sidecar is",
    Route.STATUS_PAGE: "The same as a page for people; also by HTTP Basic with any name",
    Route.OPENAPI: "This document",
}
OWN_REASONS: Final[Mapping[Route, tuple[ControlReason, ...]]] = {
    Route.OBTAIN: (ControlReason.CONSENT_SUPERSEDED, ControlReason.TOKEN_UNAVAILABLE),
    Route.LIST: (ControlReason.TOKEN_UNAVAILABLE,),
    Route.READ: (ControlReason.GRANT_UNKNOWN, ControlReason.TOKEN_UNAVAILABLE),
    Route.TAKE_OVER: (
        ControlReason.GRANT_EXISTS,
        ControlReason.CONSENT_SUPERSEDED,
        ControlReason.TOKEN_UNAVAILABLE,
    ),
    Route.REVOKE: (
        ControlReason.REAUTH_REQUIRED,
        ControlReason.GRANT_UNKNOWN,
        ControlReason.CONSENT_SUPERSEDED,
        ControlReason.PURGE_TOO_EARLY,
        ControlReason.TOKEN_UNAVAILABLE,
    ),
    Route.REFRESH: (
        ControlReason.REAUTH_REQUIRED,
        ControlReason.GRANT_UNKNOWN,
        ControlReason.TOKEN_UNAVAILABLE,
    ),
    Route.INVALIDATE: (
        ControlReason.REAUTH_REQUIRED,
        ControlReason.GRANT_UNKNOWN,
        ControlReason.TOKEN_UNAVAILABLE,
    ),
    Route.EVENTS: (ControlReason.TOKEN_UNAVAILABLE,),
    Route.BRAKE: (ControlReason.TOKEN_UNAVAILABLE,),
    Route.RELEASE_BRAKE: (ControlReason.COUNT_DIFFERS, ControlReason.TOKEN_UNAVAILABLE),
    Route.AUTHORIZE_URL: (),
    Route.CONNECT_LINK: (ControlReason.CONNECT_OFF, ControlReason.TOKEN_UNAVAILABLE),
    Route.STATUS: (),
    Route.STATUS_PAGE: (),
    Route.OPENAPI: (),
}
"""The reasons of a call beside those that every call has."""
ASKS_AKOYA: Final[Mapping[Route, Operation]] = {
    Route.OBTAIN: Operation.OBTAIN,
    Route.REFRESH: Operation.REFRESH,
}
"""Calls that are refused with the reasons of the token error catalogue too."""

_GOOD: Final[Mapping[Route, Mapping[int, tuple[str, Schema | None]]]] = {
    Route.OBTAIN: {201: ("The grant.", GRANT)},
    Route.LIST: {200: ("A page.", {"$ref": "#/components/schemas/GrantPage"})},
    Route.READ: {200: ("The grant.", GRANT)},
    Route.TAKE_OVER: {
        200: ("The grant: it was replaced, or held this very pair.", GRANT),
        201: ("The new grant.", GRANT),
    },
    Route.REVOKE: {
        202: (
            "It is served no more; Akoya will be told until it knows.",
            {"$ref": "#/components/schemas/Revocation"},
        ),
        204: ("It is revoked, or erased.", None),
    },
    Route.REFRESH: {200: ("The grant with its new pair.", GRANT)},
    Route.INVALIDATE: {200: ("The grant.", GRANT)},
    Route.EVENTS: {200: ("Changes.", {"$ref": "#/components/schemas/EventPage"})},
    Route.BRAKE: {200: ("How it is.", {"$ref": "#/components/schemas/Brake"})},
    Route.RELEASE_BRAKE: {
        200: ("How it is then.", {"$ref": "#/components/schemas/Brake"}),
        204: ("The same for a call without a body.", None),
    },
    Route.AUTHORIZE_URL: {200: ("The URL.", {"$ref": "#/components/schemas/AuthorizeUrl"})},
    Route.CONNECT_LINK: {201: ("The link.", {"$ref": "#/components/schemas/ConnectLink"})},
    Route.STATUS: {200: ("How it is.", {"$ref": "#/components/schemas/Status"})},
    Route.STATUS_PAGE: {200: ("The page.", None)},
    Route.OPENAPI: {200: ("This document.", {"type": "object"})},
}


def openapi_document() -> dict[str, object]:
    """Return the document; always the same for the same code."""
    paths: defaultdict[str, Schema] = defaultdict(dict)
    for route in Route:
        paths["/".join(route.segments)][route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Akoya sidecar: the grants API",
            "version": __version__,
            "description": "The control listener. HEAD works wherever GET does. Every answer has "
            "`X-Request-Id`, and no answer holds a token.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "security": [{"controlKey": []}],
        "paths": dict(paths),
        "components": {
            "securitySchemes": {
                "controlKey": {"type": "http", "scheme": "bearer"},
                "controlKeyAsPassword": {"type": "http", "scheme": "basic"},
            },
            "schemas": schemas(),
        },
    }


def reasons_of(route: Route) -> Mapping[int, tuple[str, ...]]:
    """Return every reason that a call may be refused with, by status."""
    told: defaultdict[int, dict[str, None]] = defaultdict(dict)
    takes_body = route.method in ("POST", "PUT")
    for own in (*_EVERY_CALL, *(_WITH_BODY if takes_body else ()), *OWN_REASONS[route]):
        told[CONTROL_PROBLEMS[own][0]][own.value] = None
    for reason in OPERATION_REASONS[ASKS_AKOYA[route]] if route in ASKS_AKOYA else ():
        for status in failure_statuses(reason):
            told[status][reason.value] = None
    return {status: tuple(told[status]) for status in sorted(told)}


def _operation(route: Route) -> Schema:
    inputs = INPUTS[route]
    made: Schema = {
        "operationId": route.name.lower(),
        "summary": MEANINGS[route],
        "parameters": [_parameter(each) for each in inputs if each.place is not Place.BODY],
        "responses": _responses(route),
    }
    members = [each for each in inputs if each.place is Place.BODY]
    if members:
        made["requestBody"] = {
            "required": any(each.is_required for each in members),
            "content": {"application/json": {"schema": _members(members)}},
        }
    if route is Route.STATUS_PAGE:
        made["security"] = [{"controlKey": []}, {"controlKeyAsPassword": []}]
    return made


def _parameter(taken: Input) -> Schema:
    return {
        "name": taken.name,
        "in": taken.place.value,
        "required": taken.is_required,
        "description": taken.rule,
        "schema": dict(taken.schema),
    }


def _members(members: Iterable[Input]) -> Schema:
    listed = list(members)
    return {
        "type": "object",
        "properties": {each.name: _or_null(each) | {"description": each.rule} for each in listed},
        "required": [each.name for each in listed if each.is_required],
        "additionalProperties": False,
    }


def _or_null(taken: Input) -> Schema:
    """Return the schema of a member; one that may be left out may be null as well."""
    schema = dict(taken.schema)
    return schema if taken.is_required else schema | {"type": [schema["type"], "null"]}


def _responses(route: Route) -> Schema:
    responses: Schema = {}
    for status, (said, schema) in _GOOD[route].items():
        responses[str(status)] = {"description": said}
        if route is Route.STATUS_PAGE:
            responses[str(status)]["content"] = {"text/html": {"schema": {"type": "string"}}}
        elif schema is not None:
            responses[str(status)]["content"] = {"application/json": {"schema": schema}}
    for status, reasons in reasons_of(route).items():
        schema = {
            "allOf": [
                {"$ref": "#/components/schemas/Problem"},
                {"properties": {"reason": {"enum": list(reasons)}}},
            ]
        }
        responses[str(status)] = {
            "description": ", ".join(f"`{reason}`" for reason in reasons),
            "content": {"application/problem+json": {"schema": schema}},
        }
    return responses
