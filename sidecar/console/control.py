"""Asks a control listener: one call, its answer as a value. Standard library only.

It does not know what the calls mean. No text of it holds the key, nor anything that was sent.
"""

from __future__ import annotations

import argparse
import http.client
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self, cast, final
from urllib.parse import urlencode

from sidecar import __version__
from sidecar.console.exits import MISCONFIGURED, UNAVAILABLE
from sidecar.console.target import Target, find_target
from sidecar.http.plain_client import connection_to
from sidecar.settings.rules import Problem

ANSWER_WITHIN_S: Final = 330.0
"""Longer than the longest `SIDECAR_IDP_TIMEOUT_S`, for which a call may wait for Akoya."""
LARGEST_ANSWER_BYTES: Final = 16 << 20

_REFUSED_FROM: Final = 400
_PASSING: Final = frozenset({429, 503})


class Unreachable(Exception):
    """No whole answer came; the call may have been carried out.

    `str` of it says what happened in a word.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the sidecar answered.

    Attributes:
        document: Empty where there is none.
        retry_after_s: From when asking again may help, or ``None``.
    """

    status: int
    document: Mapping[str, Any] = field(default_factory=dict[str, Any])
    retry_after_s: float | None = None

    @property
    def is_refusal(self) -> bool:
        """Whether the answer is a problem."""
        return self.status >= _REFUSED_FROM

    @property
    def may_pass(self) -> bool:
        """Whether the same call may succeed soon."""
        return self.status in _PASSING

    @property
    def reason(self) -> str:
        """The reason of a problem, or ``""``."""
        return str(self.document.get("reason") or "")

    @property
    def sentence(self) -> str:
        """What a problem says to people: its detail, and the hint where Akoya refused."""
        said = (self.document.get("detail"), self.document.get("hint"), *self._errors())
        return " ".join(str(each) for each in said if each)

    def _errors(self) -> list[str]:
        errors = self.document.get("errors")
        if not isinstance(errors, list):
            return []
        told = cast("list[dict[str, Any]]", errors)
        return [f"{each.get('name')}: {each.get('detail')}." for each in told]


@final
class Control:
    """A connection to one control listener; close it, or use it as a context."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._connection: http.client.HTTPConnection | None = None

    def ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, object] | None = None,
    ) -> Reply:
        """Send one call and return its answer.

        Args:
            method: As in the reference.
            path: Already percent-encoded.
            query: Parameters without a value are left out.
            body: Sent as JSON.

        Raises:
            Unreachable: No whole answer came.
        """
        asked = urlencode({name: value for name, value in (query or {}).items() if value})
        headers = {
            "Authorization": f"Bearer {self._target.key.reveal()}",
            "Accept": "application/json",
            "User-Agent": f"akoya-sidecar/{__version__}",
        }
        sent = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            sent = json.dumps(body).encode()
        if self._connection is None:
            self._connection = connection_to(
                self._target.address, timeout_s=ANSWER_WITHIN_S, tls=self._target.tls
            )
        try:
            target = f"{path}?{asked}" if asked else path
            self._connection.request(method, target, body=sent, headers=headers)
            return _reply(self._connection.getresponse())
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise Unreachable(type(error).__name__) from None

    def close(self) -> None:
        """Let the connection go; the next call makes a new one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _reply(answer: http.client.HTTPResponse) -> Reply:
    text = answer.read(LARGEST_ANSWER_BYTES + 1)
    retry_after = answer.headers.get("Retry-After", "")
    return Reply(
        status=answer.status,
        document=_document(text),
        retry_after_s=float(retry_after) if retry_after.isdecimal() else None,
    )


def _document(text: bytes) -> Mapping[str, Any]:
    """Return the object; an answer that is none has no document, whoever gave it."""
    try:
        document: object = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        return {}
    return cast("Mapping[str, Any]", document) if isinstance(document, dict) else {}


def ask_control(
    options: argparse.Namespace, environ: Mapping[str, str], work: Callable[[Control], int]
) -> int:
    """Return what `work` does, or the exit code for a listener that is not named or silent.

    What is wrong goes to standard error, in one line.
    """
    target = find_target(options, environ)
    if isinstance(target, Problem):
        sys.stderr.write(f"{target}\n")
        return MISCONFIGURED
    with Control(target) as control:
        try:
            return work(control)
        except Unreachable as away:
            sys.stderr.write(f"no answer from the control listener at {target.address}: {away}\n")
            return UNAVAILABLE
