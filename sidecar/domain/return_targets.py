"""Where a person may be sent back to: exact origins with path prefixes, and no second reading.

A URL is accepted only in a spelling that every browser reads the same way; nothing is normalised.
It does not know who is sent or why.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from sidecar.domain.addresses import HIGHEST_PORT, is_loopback_host

RETURN_TO_MAX_CHARACTERS: Final = 2048
OUTCOME_PARAMETER: Final = "outcome"

_URL: Final = re.compile(
    r"(?P<scheme>https?)://"
    r"(?P<host>[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:]+\])"
    r"(?::(?P<port>[1-9][0-9]{0,4}))?"
    r"(?P<path>(?:/(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})*)*)"
    r"(?P<query>\?(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*)?"
)
_TWO_READINGS: Final = re.compile(r"//|/\.{1,2}(?=/|$)|%(?:2[5eEfF]|5[cC]|[01]|7[fF])")
"""In a path: empty and dot segments; encoded slashes, backslashes, dots, controls, and ``%``."""

_PORTS: Final = {"https": 443, "http": 80}
_OUTCOME: Final = re.compile(r"[?&]outcome(?:[=&]|$)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Scheme, host in lower case and port of a URL."""

    scheme: str
    host: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnTarget:
    """An origin, and the path below which everything is allowed (no slash at its end)."""

    origin: Origin
    path: str


def parse_return_target(text: str) -> ReturnTarget | None:
    """Return the entry of an allow-list that `text` is, or ``None``.

    An entry is an https URL (http for loopback only) without user, query and fragment. `/app`
    allows itself and what lies below it, not `/apples`.
    """
    match = _URL.fullmatch(text)
    if match is None or match["query"] is not None:
        return None
    parsed = _parsed(match)
    if parsed is None:
        return None
    return ReturnTarget(origin=parsed.origin, path=parsed.path.rstrip("/"))


def is_return_to(text: str, targets: Iterable[ReturnTarget]) -> bool:
    """Whether a person may be sent to `text`: one of `targets` allows it, in any reading."""
    match = _URL.fullmatch(text) if len(text) <= RETURN_TO_MAX_CHARACTERS else None
    wanted = None if match is None else _parsed(match)
    if match is None or wanted is None or _OUTCOME.search(match["query"] or ""):
        return False
    return any(
        wanted.origin == target.origin
        and (wanted.path == target.path or wanted.path.startswith(f"{target.path}/"))
        for target in targets
    )


def with_outcome(return_to: str, outcome: str) -> str:
    """Return the URL that tells the app how it ended; `return_to` was checked before."""
    joint = "&" if "?" in return_to else "?"
    return f"{return_to}{joint}{OUTCOME_PARAMETER}={outcome}"


def _parsed(match: re.Match[str]) -> ReturnTarget | None:
    scheme, host, path = match["scheme"], match["host"].lower(), match["path"]
    port = int(match["port"] or _PORTS[scheme])
    if port > HIGHEST_PORT or _TWO_READINGS.search(path):
        return None
    if scheme == "http" and not is_loopback_host(host.strip("[]")):
        return None
    return ReturnTarget(origin=Origin(scheme=scheme, host=host, port=port), path=path)
