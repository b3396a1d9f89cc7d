"""The shapes of what the grants API answers, as JSON Schema for the OpenAPI document."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from sidecar.domain.connecting import LINK_LIFE_S
from sidecar.domain.failure import (
    OPERATION_REASONS,
    Disposition,
    FailureReason,
    Operation,
)
from sidecar.domain.outcomes import Obstacle
from sidecar.domain.record import PUBLIC_STATES
from sidecar.domain.throttle import BrakeCause
from sidecar.http.control_problems import ControlReason
from sidecar.service.brake_desk import BrakeState
from sidecar.service.health import Phase
from sidecar.service.status import CheckName, Mood

Schema = dict[str, Any]

GRANT: Final = {"$ref": "#/components/schemas/Grant"}


def schemas() -> Schema:
    """Return every shape by its name."""
    return {
        "Grant": _grant(),
        "GrantPage": _object(
            {"grants": {"type": "array", "items": GRANT}, "cursor": _maybe("string")}
        ),
        "EventPage": _object(
            {"events": {"type": "array", "items": _event()}, "cursor": _maybe("string")}
        ),
        "Revocation": _revocation(),
        "AuthorizeUrl": _object({"url": {"type": "string", "format": "uri"}}),
        "ConnectLink": _object(
            {"url": {"type": "string", "format": "uri"}, "expires_in_s": {"const": LINK_LIFE_S}}
        ),
        "Brake": _brake(),
        "Failure": _failure(),
        "Status": _status(),
        "Problem": _problem(),
    }


def _object(properties: Schema, *, optional: Iterable[str] = ()) -> Schema:
    """Return an object of which every member is there but the optional ones."""
    left_out = frozenset(optional)
    return {
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name not in left_out],
        "additionalProperties": False,
    }


def _maybe(kind: str, **limits: object) -> Schema:
    return {"type": [kind, "null"], **limits}


def _instant() -> Schema:
    return _maybe("string", format="date-time")


def _one_of(values: Iterable[str]) -> Schema:
    return {"type": "string", "enum": [str(value) for value in values]}


def _grant() -> Schema:
    return _object(
        {
            "user": _maybe("string"),
            "provider": _maybe("string"),
            "grant": {"type": "string"},
            "state": _one_of(PUBLIC_STATES),
            "consented_at": _instant(),
            "generation": _maybe("integer"),
            "id_token_expires_at": _instant(),
            "refreshed_at": _instant(),
            "subject": _maybe("string"),
            "grant_id": _maybe("string"),
            "readable": {"type": "boolean"},
            "last_error": {
                "oneOf": [
                    {"type": "null"},
                    _object(
                        {
                            "operation": {"type": "string"},
                            "reason": {"type": "string"},
                            "at": _instant(),
                        }
                    ),
                ]
            },
        }
    )


def _event() -> Schema:
    return _object(
        {
            "cursor": {"type": "string"},
            "at": _instant(),
            "user": _maybe("string"),
            "provider": _maybe("string"),
            "grant": {"type": "string"},
            "state": _one_of(PUBLIC_STATES),
            "reason": _maybe("string"),
        }
    )


def _revocation() -> Schema:
    return _object(
        {
            "user": {"type": "string"},
            "provider": {"type": "string"},
            "grant": {"type": "string"},
            "state": _one_of(("revoking",)),
            "retry_in_s": _maybe("number"),
            "failure": {"oneOf": [{"type": "null"}, {"$ref": "#/components/schemas/Failure"}]},
        }
    )


def _failure() -> Schema:
    return _object(
        {"reason": _one_of(OPERATION_REASONS[Operation.REVOKE]), **_failure_members()},
        optional=("akoya",),
    )


def _failure_members() -> Schema:
    return {
        "operation": _one_of(Operation),
        "disposition": _one_of(Disposition),
        "hint": {"type": "string"},
        "akoya": _object(
            {
                "status": {"type": "integer"},
                "error": _maybe("string"),
                "error_description": _maybe("string"),
            }
        ),
    }


def _brake() -> Schema:
    trial = _object({name: {"type": "integer"} for name in ("limit", "decided", "denied")})
    cause = {"oneOf": [{"type": "null"}, _one_of(BrakeCause)]}
    return _object(
        {
            "state": _one_of(BrakeState),
            "since": _instant(),
            "cause": cause,
            "decided": {"type": "integer"},
            "denied": {"type": "integer"},
            "held_back": _maybe("integer"),
            "trial": {"oneOf": [{"type": "null"}, trial]},
            "free_until": _instant(),
            "hint": {"type": "string"},
        }
    )


def _status() -> Schema:
    check = {
        "name": _one_of(CheckName),
        "mood": _one_of(Mood),
        "said": {"type": "string"},
        "hint": _maybe("string"),
    }
    error = {
        "at": _instant(),
        "operation": _one_of(Operation),
        "reason": _one_of(FailureReason),
        "provider": {"type": "string"},
        "grant": {"type": "string"},
        "retry_in_s": _maybe("number"),
        "hint": {"type": "string"},
    }
    counts = _object({state: {"type": "integer"} for state in PUBLIC_STATES})
    return _object(
        {
            "version": {"type": "string"},
            "phase": _one_of(Phase),
            "at": _instant(),
            "checks": {"type": "array", "items": _object(check)},
            "grants": {"oneOf": [{"type": "null"}, counts]},
            "grants_counted_at": _instant(),
            "token_errors": {"type": "array", "items": _object(error)},
        }
    )


def _problem() -> Schema:
    field_error = _object({"name": {"type": "string"}, "detail": {"type": "string"}})
    always = {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "reason": _one_of((*ControlReason, *FailureReason)),
        "request_id": {"type": "string"},
    }
    sometimes = {
        "errors": {"type": "array", "items": field_error},
        "obstacle": _one_of(Obstacle),
        "state": _one_of(PUBLIC_STATES),
        "current": GRANT,
        "held_back": {"type": "integer"},
        **_failure_members(),
    }
    return _object(always | sometimes, optional=sometimes)
