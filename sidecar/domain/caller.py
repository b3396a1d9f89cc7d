"""Whom a request speaks for and which client key it shows, read from its headers.

Sources that disagree are refused. It does not know which keys are right, nor where a request goes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sidecar.domain.forwarding import RequestHead
from sidecar.domain.request_target import Refused
from sidecar.domain.secret import Secret
from sidecar.domain.tokens import ProblemReason

_USER_MAX_LENGTH: Final = 255
_FIRST_VISIBLE: Final = "\x21"
_LAST_VISIBLE: Final = "\x7e"
_REQUEST_INVALID: Final = Refused(reason=ProblemReason.REQUEST_INVALID)
_USER_MISSING: Final = Refused(reason=ProblemReason.USER_MISSING)


def name_user(head: RequestHead, *, user_header: bytes) -> str | Refused:
    """Return the end user whom `user_header` (lower case) or the bearer names.

    Anything else in ``Authorization`` names nobody.
    """
    named = head.held(user_header)
    _, bearer_user = _read_bearer(head)
    if not _is_single(head, named) or _disagree(named, bearer_user):
        return _REQUEST_INVALID
    user = (named[0] if named else bearer_user or b"").decode("ascii", "replace")
    return user if is_user(user) else _USER_MISSING


def show_client_key(head: RequestHead) -> Secret | Refused | None:
    """Return the client key that a request shows, or ``None``."""
    shown = head.held(b"sidecar-key")
    bearer_key, _ = _read_bearer(head)
    if not _is_single(head, shown) or _disagree(shown, bearer_key):
        return _REQUEST_INVALID
    key = shown[0] if shown else bearer_key
    return None if key is None else Secret(key.decode("utf-8", "replace"))


def is_user(user: str) -> bool:
    """Whether a user id is 1 to 255 visible ASCII characters, and no dot segment."""
    return (
        0 < len(user) <= _USER_MAX_LENGTH
        and min(user) >= _FIRST_VISIBLE
        and max(user) <= _LAST_VISIBLE
        and user not in {".", ".."}
    )


def _is_single(head: RequestHead, values: Sequence[bytes]) -> bool:
    return len(values) <= 1 and len(head.held(b"authorization")) <= 1


def _disagree(values: Sequence[bytes], other: bytes | None) -> bool:
    return bool(values) and other is not None and values[0] != other


def _read_bearer(head: RequestHead) -> tuple[bytes | None, bytes | None]:
    """Return (client key, user) of ``Bearer user:{user}`` or ``Bearer key:{key}:user:{user}``."""
    values = head.held(b"authorization")
    scheme, _, token = values[0].partition(b" ") if values else (b"", b"", b"")
    token = token.strip(b" ")
    if scheme.lower() != b"bearer":
        return None, None
    if token.startswith(b"user:"):
        return None, token.removeprefix(b"user:")
    key, separator, user = token.removeprefix(b"key:").partition(b":user:")
    if token.startswith(b"key:") and separator:
        return key, user
    return None, None
