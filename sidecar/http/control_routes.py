"""Which call of the grants API a method and a raw path mean, and whose grant the path names.

A segment is decoded once, after the path was split: an encoded slash belongs to a user id. It does
not know what the calls do.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from urllib.parse import unquote_to_bytes

from sidecar.domain.caller import is_user
from sidecar.domain.record import GrantKey
from sidecar.domain.request_target import is_provider
from sidecar.http.control_problems import FieldError


class Route(StrEnum):
    """Every call; its value is the name in logs and in the documentation."""

    OBTAIN = "POST /grants"
    LIST = "GET /grants"
    READ = "GET /grants/{provider}/{user}"
    TAKE_OVER = "PUT /grants/{provider}/{user}"
    REVOKE = "DELETE /grants/{provider}/{user}"
    REFRESH = "POST /grants/{provider}/{user}/refresh"
    INVALIDATE = "POST /grants/{provider}/{user}/invalidate"
    EVENTS = "GET /events"
    BRAKE = "GET /brake"
    RELEASE_BRAKE = "POST /brake/release"
    AUTHORIZE_URL = "GET /authorize-url"
    STATUS = "GET /status"
    STATUS_PAGE = "GET /"
    OPENAPI = "GET /openapi.json"
    CONNECT_LINK = "POST /connect-links"

    @property
    def method(self) -> str:
        """The method of the call."""
        return self.value.partition(" ")[0]

    @property
    def segments(self) -> tuple[str, ...]:
        """The path of the call, by segments."""
        return tuple(self.value.partition(" ")[2].split("/"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Routed:
    """A call, and the raw segments that name the grant where it is about one."""

    route: Route
    provider: str = ""
    user: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoSuchPath:
    """No call has this path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoSuchMethod:
    """The path takes other methods: `allow` lists them."""

    allow: str


PROVIDER_RULE: Final = "1 to 128 letters, digits or any of -._~"
USER_RULE: Final = "1 to 255 visible ASCII characters, and no dot segment"

_PROVIDER_SEGMENT: Final = "{provider}"
_USER_SEGMENT: Final = "{user}"
_ENCODED: Final = re.compile(r"(?:[^%]|%[0-9A-Fa-f]{2})*", re.DOTALL)


def find_route(method: str, path: str) -> Routed | NoSuchPath | NoSuchMethod:
    """Return the call of a method and a raw path (without its query); HEAD is asked as GET."""
    segments = path.split("/")
    routes = {route.method: route for route in Route if _fits(route.segments, segments)}
    if not routes:
        return NoSuchPath()
    route = routes.get("GET" if method == "HEAD" else method)
    if route is None:
        return NoSuchMethod(allow=_allow(routes))
    named = dict(zip(route.segments, segments, strict=True))
    return Routed(
        route=route,
        provider=named.get(_PROVIDER_SEGMENT, ""),
        user=named.get(_USER_SEGMENT, ""),
    )


def parse_key(routed: Routed) -> GrantKey | Sequence[FieldError]:
    """Return whose grant the path names, or all that is wrong with it."""
    provider, user = _decoded(routed.provider), _decoded(routed.user)
    errors: list[FieldError] = []
    if not is_provider(provider):
        errors.append(FieldError(name="provider", detail=PROVIDER_RULE))
    if not is_user(user):
        errors.append(FieldError(name="user", detail=USER_RULE))
    return errors or GrantKey(user=user, provider=provider)


def _fits(template: Sequence[str], segments: Sequence[str]) -> bool:
    return len(template) == len(segments) and all(
        wanted in (segment, _PROVIDER_SEGMENT, _USER_SEGMENT)
        for wanted, segment in zip(template, segments, strict=True)
    )


def _allow(routes: Mapping[str, Route]) -> str:
    return ", ".join(sorted({*routes, "HEAD"} if "GET" in routes else routes))


def _decoded(segment: str) -> str:
    """Decode a segment once; what is no encoding of ASCII becomes ``""``, which nothing accepts."""
    if _ENCODED.fullmatch(segment) is None:
        return ""
    try:
        return unquote_to_bytes(segment).decode("ascii")
    except UnicodeError:
        return ""
