"""The data APIs: who may ask, how often, with which headers; and the way faults come in.

What is answered to those who may is `data_answers`. It must not know how tokens are issued.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, final
from urllib.parse import unquote

from aiohttp import web

from sidecar.sandbox.ask import Ask
from sidecar.sandbox.data_answers import answer
from sidecar.sandbox.delivery import Vanish, deliver, obstacle, reset
from sidecar.sandbox.replies import DataError, Reply, json_reply
from sidecar.sandbox.windows import parse_instant

if TYPE_CHECKING:
    from sidecar.sandbox.grants import Grant
    from sidecar.sandbox.world import World

_VERSIONS: Final = ("v2", "v3")
_PROVIDER: Final = re.compile(r"[a-z0-9-]{1,64}")
# The edge refuses a route it does not know before any of the data APIs' own errors apply.
_FORBIDDEN: Final = json_reply({"message": "Forbidden"}, status=403)
_ERROR_USERS: Final = {
    "mikomo_500": DataError.INTERNAL,
    "mikomo_501": DataError.SUBSYSTEM,
    "mikomo_601": DataError.CUSTOMER_UNKNOWN,
    "mikomo_602": DataError.NOT_AUTHORIZED,
    "mikomo_701": DataError.ACCOUNT_UNKNOWN,
    "mikomo_702": DataError.INVALID_DATES,
    "mikomo_703": DataError.INVALID_RANGE,
    "mikomo_704": DataError.TYPE_UNSUPPORTED,
}


@final
class DataService:
    """Answers data requests of bearers whose grant lives."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def get(self, request: web.Request) -> web.StreamResponse:
        """Answer `GET /{product}/{version}/{provider}/...`."""
        world = self._world
        segments = _segments(request)
        grant = self._grant(request)
        user = None if grant is None else grant.consent.user
        provider = segments[2] if len(segments) > 2 else None  # noqa: PLR2004 - third in the path
        fault = world.faults.take("data", user=user, provider=provider)
        match await obstacle(fault, world, data=True):
            case Vanish():
                return reset(request).response
            case Reply() as reply:
                delivered = await deliver(request, reply, fault, world, data=True)
            case _:
                reply = self._decide(request, segments, grant)
                delivered = await deliver(request, reply, fault, world, data=True)
        response = delivered.response
        if isinstance(response, web.Response) and response.body and _reads_gzip(request):
            response.enable_compression(web.ContentCoding.gzip)
        return response

    def _decide(
        self, request: web.Request, segments: tuple[str, ...], grant: Grant | None
    ) -> Reply:
        refusal = self._refusal(request, segments)
        if refusal is not None:
            return refusal
        product, _, provider, *rest = segments
        # The time a fault takes may have ended the grant.
        grant = grant and self._grant(request)
        if grant is None or grant.consent.provider != provider:
            return DataError.NOT_AUTHORIZED.reply
        if provider in self._world.settings.providers_down:
            return DataError.SUBSYSTEM.reply
        user = grant.consent.user
        if user in _ERROR_USERS:
            return _ERROR_USERS[user].reply
        ask = Ask(
            user=user,
            provider=provider,
            path="/" + "/".join(segments),
            rest=tuple(rest),
            query=dict(request.query),
            accept=request.headers.get("Accept", ""),
            consented=grant.consent.accounts,
            now=self._world.clock(),
        )
        return answer(product, ask)

    def _refusal(self, request: web.Request, segments: tuple[str, ...]) -> Reply | None:
        """Find what is wrong with a request whoever sends it."""
        world = self._world
        match segments:
            case (_, version, *_) if version not in _VERSIONS:
                return _FORBIDDEN
            case (_,):
                return _FORBIDDEN
            case _ if not world.limiter.admits(now=world.clock(), rate=world.settings.rate_limit):
                return DataError.TOO_MANY_REQUESTS.reply
            case (_, "v3", *_) if not _has_v3_headers(request):
                return DataError.INVALID_INPUT.reply
            case (_, _, provider, *_) if _PROVIDER.fullmatch(provider):
                unknown = provider.startswith("unknown-")
                return DataError.NO_SUBSCRIPTION.reply if unknown else None
            case _:
                return DataError.INVALID_INPUT.reply

    def _grant(self, request: web.Request) -> Grant | None:
        """Find the live grant whose id_token the request bears, if it is honoured still."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        claims = self._world.signer.verified_claims(token.strip())
        if claims is None:
            return None
        expires, issued = claims["exp"], claims["iat"]
        now, honoured_s = self._world.clock(), self._world.settings.id_token_honoured_s
        if not isinstance(expires, int) or now >= expires:
            return None
        if honoured_s and (not isinstance(issued, int) or now - issued >= honoured_s):
            return None
        return self._world.grants.grant_of_id_token(str(claims["jti"]))


def _segments(request: web.Request) -> tuple[str, ...]:
    """Split the path before decoding it, so that an encoded slash stays inside its segment."""
    return tuple(unquote(part) for part in request.rel_url.raw_path.strip("/").split("/"))


def _has_v3_headers(request: web.Request) -> bool:
    headers = request.headers
    intent = headers.get("X-Akoya-Intent-Type", "nonpayments").lower()
    return (
        headers.get("X-Akoya-Interaction-Type", "").lower() in ("user", "batch")
        and parse_instant(headers.get("X-Akoya-Last-Access", "")) is not None
        and intent in ("payments", "nonpayments")
    )


def _reads_gzip(request: web.Request) -> bool:
    codings = (part.split(";") for part in request.headers.get("Accept-Encoding", "").split(","))
    return any(
        name.strip().lower() in ("gzip", "x-gzip")
        and not any(each.replace(" ", "").lower() in ("q=0", "q=0.0") for each in parameters)
        for name, *parameters in codings
    )
