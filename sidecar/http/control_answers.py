"""The answers of the control listener: values of the grants API as JSON, or as problems.

Here it is decided which status a value has. It must not know requests, nor how an answer is sent.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, assert_never

from sidecar.domain.bounds import LATEST_INSTANT_S
from sidecar.domain.connecting import LINK_LIFE_S
from sidecar.domain.outcomes import ConsentSuperseded, ExchangeFailed, GrantGone, Postponed
from sidecar.domain.record import GrantId, GrantKey
from sidecar.http.control_problems import (
    ControlReason,
    FieldError,
    failed,
    failure_members,
    gone,
    invalid,
    postponed,
    to_control_problem,
)
from sidecar.http.problems import Problem
from sidecar.service.brake_calls import BrakeShown
from sidecar.service.brake_desk import BrakeState, CountDiffers
from sidecar.service.connects import LinkMade
from sidecar.service.grant_answers import (
    ChangeAnswer,
    CursorUnknown,
    EventPage,
    GrantPage,
    ImportAnswer,
    ObtainAnswer,
    ReadAnswer,
    RevokeAnswer,
    Revoked,
    Revoking,
    Shown,
    Standing,
    StillRunning,
    Unerased,
)
from sidecar.service.grant_views import EventView, GrantView

OK: Final = 200
CREATED: Final = 201
ACCEPTED: Final = 202
NO_CONTENT: Final = 204

CODE_KEPT: Final = "Nothing was sent to Akoya: the same code can be tried again soon."
STILL_COUNTING: Final = "This takes longer than a call waits: look at `GET /brake`, and ask again."
BRAKE_HINTS: Final = {
    BrakeState.OFF: "Nothing is held back.",
    BrakeState.ON: "Find out why the tokens were refused, then release some grants, and see what "
    "Akoya says to them; release all only if you know that the consents ended.",
    BrakeState.TRIAL: "Some grants are let go. If more than half of them are denied, the brake is "
    "pulled again; otherwise the usual limits apply.",
    BrakeState.FREE: "All grants are let go: every denial is believed until then.",
}
STILL_RUNNING: Final = "This takes longer than a call waits; it goes on, and GET shows its end."


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A call that did what it was asked; `document` is ``None`` where there is no body."""

    status: int
    document: Mapping[str, object] | None = None

    def body(self) -> bytes:
        """Return the document, or nothing."""
        if self.document is None:
            return b""
        return json.dumps(self.document, separators=(",", ":")).encode()


def after_obtain(answer: ObtainAnswer) -> Answer | Problem:
    """Answer `POST /grants`."""
    match answer:
        case Shown():
            return Answer(status=CREATED, document=to_document(answer.view))
        case ConsentSuperseded():
            return to_control_problem(ControlReason.CONSENT_SUPERSEDED)
        case ExchangeFailed():
            return failed(answer.failure)
        case Postponed():
            return postponed(answer, detail=CODE_KEPT)
        case StillRunning():
            return _still_running()
        case _:
            assert_never(answer)


def after_import(answer: ImportAnswer) -> Answer | Problem:
    """Answer `PUT /grants/{provider}/{user}`."""
    match answer:
        case Shown():
            status = CREATED if answer.is_new else OK
            return Answer(status=status, document=to_document(answer.view))
        case Standing():
            members = {"current": to_document(answer.view)}
            return to_control_problem(ControlReason.GRANT_EXISTS, members=members)
        case ConsentSuperseded():
            return to_control_problem(ControlReason.CONSENT_SUPERSEDED)
        case Postponed():
            return postponed(answer)
        case StillRunning():
            return _still_running()
        case _:
            assert_never(answer)


def after_read(answer: ReadAnswer | ChangeAnswer) -> Answer | Problem:
    """Answer a call whose success is the grant as it stands."""
    match answer:
        case Shown():
            return Answer(status=OK, document=to_document(answer.view))
        case GrantGone():
            return gone(answer)
        case Postponed():
            return postponed(answer)
        case StillRunning():
            return _still_running()
        case _:
            assert_never(answer)


def after_revoke(answer: RevokeAnswer, *, key: GrantKey, grant: GrantId) -> Answer | Problem:
    """Answer `DELETE /grants/{provider}/{user}`."""
    match answer:
        case Revoked():
            return Answer(status=NO_CONTENT)
        case Revoking():
            failure = None
            if answer.failure is not None:
                failure = {"reason": answer.failure.reason.value, **failure_members(answer.failure)}
            document: dict[str, object] = {
                "user": key.user,
                "provider": key.provider,
                "grant": grant,
                "state": "revoking",
                "retry_in_s": answer.retry_in_s,
                "failure": failure,
            }
            return Answer(status=ACCEPTED, document=document)
        case Unerased():
            return to_control_problem(
                ControlReason.PURGE_TOO_EARLY,
                retry_after_s=answer.wait_s,
                members={"current": to_document(answer.view)},
            )
        case GrantGone():
            return gone(answer)
        case ConsentSuperseded():
            return to_control_problem(ControlReason.CONSENT_SUPERSEDED)
        case Postponed():
            return postponed(answer)
        case StillRunning():
            return _still_running()
        case _:
            assert_never(answer)


def after_release(answer: CountDiffers | Postponed | StillRunning | None) -> Answer | Problem:
    """Answer `POST /brake/release`."""
    match answer:
        case None:
            return Answer(status=NO_CONTENT)
        case CountDiffers(held_back=held_back):
            members = {"held_back": held_back}
            return to_control_problem(ControlReason.COUNT_DIFFERS, members=members)
        case Postponed():
            return postponed(answer)
        case StillRunning():
            return to_control_problem(ControlReason.TOKEN_UNAVAILABLE, detail=STILL_COUNTING)
        case _:
            assert_never(answer)


def after_brake(answer: BrakeShown | Postponed | StillRunning) -> Answer | Problem:
    """Answer `GET /brake`; every member is always there."""
    if isinstance(answer, Postponed):
        return postponed(answer)
    if isinstance(answer, StillRunning):
        return _still_running()
    view, held_back = answer
    trial = None
    if view.trial is not None:
        limit, decided, denied = view.trial
        trial = {"limit": limit, "decided": decided, "denied": denied}
    document: dict[str, object] = {
        "state": view.state.value,
        "since": to_instant(view.since_ms),
        "cause": view.cause or None,
        "decided": view.decided,
        "denied": view.denied,
        "held_back": held_back,
        "trial": trial,
        "free_until": to_instant(view.free_until_ms),
        "hint": BRAKE_HINTS[view.state],
    }
    return Answer(status=OK, document=document)


def after_link(answer: LinkMade | Postponed) -> Answer | Problem:
    """Answer `POST /connect-links`."""
    match answer:
        case LinkMade(url=url):
            document = {"url": url.reveal(), "expires_in_s": LINK_LIFE_S}
            return Answer(status=CREATED, document=document)
        case Postponed():
            return postponed(answer)
        case _:
            assert_never(answer)


def after_page(answer: GrantPage | EventPage | CursorUnknown | Postponed) -> Answer | Problem:
    """Answer `GET /grants` and `GET /events`."""
    match answer:
        case GrantPage():
            grants = [to_document(view) for view in answer.grants]
            return Answer(status=OK, document={"grants": grants, "cursor": answer.cursor or None})
        case EventPage():
            events = [_to_event(view) for view in answer.events]
            return Answer(status=OK, document={"events": events, "cursor": answer.cursor or None})
        case CursorUnknown():
            return invalid((FieldError(name="cursor", detail="none that this call gave"),))
        case Postponed():
            return postponed(answer)
        case _:
            assert_never(answer)


def to_document(view: GrantView) -> dict[str, object]:
    """Return a grant as the API shows it; every member is always there."""
    error = view.last_error
    return {
        "user": None if view.key is None else view.key.user,
        "provider": None if view.key is None else view.key.provider,
        "grant": view.grant,
        "state": view.state.public,
        "consented_at": to_instant(view.consented_at_ms),
        "generation": view.generation if view.generation >= 0 else None,
        "id_token_expires_at": to_instant(view.id_token_expires_at_ms),
        "refreshed_at": to_instant(view.refreshed_at_ms),
        "subject": view.subject or None,
        "grant_id": view.akoya_grant_id or None,
        "readable": view.is_readable,
        "last_error": None
        if error is None
        else {
            "operation": error.operation,
            "reason": error.reason,
            "at": to_instant(error.at_ms),
        },
    }


def to_instant(at_ms: int) -> str | None:
    """Return RFC 3339 in UTC, to the millisecond; ``None`` for 0, and for what is no instant."""
    if not 0 < at_ms < LATEST_INSTANT_S * 1000:
        return None
    at = datetime.fromtimestamp(at_ms / 1000, tz=UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _to_event(view: EventView) -> dict[str, object]:
    entry = view.entry
    return {
        "cursor": view.cursor,
        "at": to_instant(entry.at_ms),
        "user": None if view.key is None else view.key.user,
        "provider": None if view.key is None else view.key.provider,
        "grant": entry.grant,
        "state": entry.state.public,
        "reason": entry.reason or None,
    }


def _still_running() -> Problem:
    return to_control_problem(ControlReason.TOKEN_UNAVAILABLE, detail=STILL_RUNNING)
