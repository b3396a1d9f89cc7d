"""The answers of the sandbox as plain values, and the data APIs' documented errors, word for word.

It decides no request; it only says what an answer looks like. It must not know HTTP libraries.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, TypeAlias, final

Document: TypeAlias = Mapping[str, object]

JSON_TYPE: Final = "application/json"
HTML_TYPE: Final = "text/html"
PDF_TYPE: Final = "application/pdf"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A whole answer, before any fault has been at it."""

    status: int
    body: bytes = field(default=b"", repr=False)
    content_type: str = JSON_TYPE
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


def json_reply(
    document: Document, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Reply:
    """Answer with a JSON document."""
    body = json.dumps(document, separators=(",", ":")).encode()
    return Reply(status=status, body=body, headers=headers or {})


def token_error(
    status: int, error: str, description: str | None = None, *, basic: bool = False
) -> Reply:
    """Answer as the token service refuses: `error` and, where it has one, `error_description`."""
    document = {"error": error}
    if description is not None:
        document["error_description"] = description
    headers = {"Cache-Control": "no-store"}
    if basic:
        headers["WWW-Authenticate"] = "Basic"
    return json_reply(document, status=status, headers=headers)


@final
class DataError(Enum):
    """A refusal of the data APIs: HTTP status, Akoya's code, Akoya's message."""

    INVALID_INPUT = (400, 401, "Invalid input")
    INVALID_DATES = (400, 702, "Invalid start or end date")
    INVALID_RANGE = (400, 703, "Invalid date range")
    NOT_AUTHORIZED = (401, 602, "Customer not authorized")
    NO_SUBSCRIPTION = (403, 403, "Subscription not found")
    CUSTOMER_UNKNOWN = (404, 601, "Customer not found")
    ACCOUNT_UNKNOWN = (404, 701, "Account not found")
    DATA_NOT_FOUND = (404, 1107, "Data not found")
    NOT_ACCEPTABLE = (406, 1203, "Content type not supported")
    TYPE_UNSUPPORTED = (422, 704, "Account type not supported")
    TOO_MANY_REQUESTS = (429, 1207, "Too many requests")
    INTERNAL = (500, 500, "Internal server error")
    SUBSYSTEM = (501, 501, "Subsystem unavailable")

    @property
    def reply(self) -> Reply:
        """This refusal as an answer."""
        status, code, message = self.value
        return json_reply({"code": code, "message": message}, status=status)


def status_reply(status: int, *, data: bool, retry_after_s: float | None) -> Reply:
    """Answer with a bare failure of the given status, in the words of the side that is asked."""
    headers = {} if retry_after_s is None else {"Retry-After": f"{retry_after_s:g}"}
    known = {error.value[0]: error for error in DataError}
    if data and status in known:
        _, code, message = known[status].value
        return json_reply({"code": code, "message": message}, status=status, headers=headers)
    if data:
        return json_reply({"code": status, "message": "Fault"}, status=status, headers=headers)
    return json_reply({"error": "server_error"}, status=status, headers=headers)
