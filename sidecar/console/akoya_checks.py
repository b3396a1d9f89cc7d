"""What `doctor` asks Akoya: whether it is there, knows the app, and agrees on paths and the time.

The two token requests carry a code and a refresh token that were made up on the spot: Akoya looks
at the app's credentials first and refuses the rest, so no consent and no token can be used up.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from ssl import SSLContext
from typing import Final
from urllib.parse import urlsplit

from sidecar.adapters.http_idp import HttpIdentityProvider
from sidecar.console.findings import Area, Finding, Verdict
from sidecar.console.store_checks import skew
from sidecar.domain.failure import HINTS, FailureReason, Operation
from sidecar.domain.secret import Secret
from sidecar.domain.token_requests import (
    TOKEN_PATH,
    ClientCredentials,
    RefreshAuth,
    obtain_request,
    refresh_request,
)
from sidecar.domain.token_wire import read_reply
from sidecar.domain.tokens import TokenFailure
from sidecar.domain.wire import TokenReply, TokenRequest
from sidecar.http.reaching import Reached, Unreached, Way, reach
from sidecar.ports import Clock, Entropy
from sidecar.settings import Settings

DISCOVERY_PATH: Final = "/.well-known/openid-configuration"
ANY_REDIRECT: Final = "https://localhost/"
SECRET: Final = "SIDECAR_AKOYA_CLIENT_SECRET"  # noqa: S105 - the name of a variable

KNOWN_APP: Final = frozenset(
    {
        FailureReason.CODE_INVALID,
        FailureReason.REDIRECT_URI_MISMATCH,
        FailureReason.REFRESH_TOKEN_CLAIMED,
        FailureReason.REFRESH_TOKEN_EXPIRED,
        FailureReason.REFRESH_TOKEN_MISSING,
    }
)
"""Refusals of what was made up: whoever gives them has accepted the app."""
REFUSED_APP: Final = frozenset(
    {
        FailureReason.CLIENT_CREDENTIALS_INVALID,
        FailureReason.ENDPOINT_REFUSED,
        FailureReason.UNREACHABLE,
    }
)


async def check_akoya(
    idp: HttpIdentityProvider,
    *,
    settings: Settings,
    tls: SSLContext,
    clock: Clock,
    entropy: Entropy,
) -> AsyncIterator[Finding]:
    """Yield what is found of the token service; nothing secret leaves for one that is not there."""
    asked_s = clock.now_s()
    reached = await reach(
        f"{settings.effective_idp_url}{DISCOVERY_PATH}",
        way_of(settings, settings.idp_connect_timeout_s, tls),
    )
    yield _there(Area.AKOYA, "SIDECAR_IDP_URL", reached)
    if isinstance(reached, Unreached):
        return
    if reached.date_s is not None:
        ahead_s = (asked_s + clock.now_s()) / 2 - reached.date_s
        yield skew(Area.AKOYA, "clock", ahead_s=ahead_s, whose="Akoya")
    for finding in _paths(reached, settings):
        yield finding
    client = ClientCredentials(
        client_id=settings.akoya_client_id, client_secret=settings.akoya_client_secret.secret
    )
    made_up = Secret(f"doctor-{entropy.new_id()}")
    obtained = await _ask(
        idp,
        obtain_request(client, made_up, settings.redirect_uri or ANY_REDIRECT),
        within_s=settings.idp_timeout_s,
    )
    yield _credentials(obtained)
    if obtained in KNOWN_APP:
        auth = RefreshAuth(settings.refresh_auth)
        refreshed = await _ask(
            idp, refresh_request(client, made_up, auth), within_s=settings.idp_timeout_s
        )
        yield _refresh_auth(refreshed, auth)


async def check_data(settings: Settings, tls: SSLContext) -> Finding:
    """Return whether the data APIs are there; whatever they answer without a bearer is fine."""
    way = way_of(settings, settings.upstream_connect_timeout_s, tls)
    return _there(
        Area.DATA, "SIDECAR_PRODUCTS_URL", await reach(settings.effective_products_url, way)
    )


def way_of(settings: Settings, timeout_s: float, tls: SSLContext) -> Way:
    """Return how these settings reach Akoya."""
    proxy = settings.egress_proxy
    return Way(
        timeout_s=2 * timeout_s,  # the connection, and the answer as well
        tls=tls,
        egress_proxy=None if proxy is None else proxy.reveal(),
    )


def _there(area: Area, subject: str, reached: Reached | Unreached) -> Finding:
    if isinstance(reached, Reached):
        return Finding(
            area=area,
            subject=subject,
            verdict=Verdict.GOOD,
            found=f"it answers (status {reached.status})",
        )
    advice = "check the network, DNS, the firewall and SIDECAR_EGRESS_PROXY"
    if reached.is_certificate:
        advice = "name its authority in SIDECAR_CA_FILE, or mend its certificate"
    return Finding(
        area=area,
        subject=subject,
        verdict=Verdict.WRONG,
        found=f"no answer ({reached.error})",
        advice=f"{advice}; and that {subject} or SIDECAR_AKOYA_ENVIRONMENT name the right host",
    )


def _paths(reached: Reached, settings: Settings) -> list[Finding]:
    """Compare the paths that discovery announces, where it announces any."""
    prefix = urlsplit(settings.effective_idp_url).path
    wanted = (
        ("token_endpoint", "SIDECAR_IDP_URL", f"{prefix}{TOKEN_PATH}"),
        ("revocation_endpoint", "SIDECAR_REVOKE_PATH", f"{prefix}{settings.revoke_path}"),
    )
    found: list[Finding] = []
    for name, variable, ours in wanted:
        announced = reached.document.get(name)
        theirs = urlsplit(announced).path if isinstance(announced, str) else ours
        if theirs != ours:
            found.append(
                Finding(
                    area=Area.AKOYA,
                    subject=name,
                    verdict=Verdict.RISKY,
                    found=f"discovery announces {theirs}, and we would ask {ours}",
                    advice=f"change {variable} so that they agree",
                )
            )
    return found


async def _ask(
    idp: HttpIdentityProvider, request: TokenRequest, *, within_s: float
) -> FailureReason | None:
    """Return how a request with something made up was refused; ``None``: it was not."""

    async def at_once() -> bool:
        return True

    def told(_: TokenReply) -> None:
        return

    try:
        async with asyncio.timeout(within_s):
            reply = await idp.send(request, before_send=at_once, on_answer=told)
    except TimeoutError:
        return FailureReason.ANSWER_LOST
    reading = read_reply(request.operation, reply)
    return reading.reason if isinstance(reading, TokenFailure) else None


def _credentials(reason: FailureReason | None) -> Finding:
    if reason in KNOWN_APP:
        return Finding(
            area=Area.AKOYA, subject=SECRET, verdict=Verdict.GOOD, found="Akoya knows the app"
        )
    return _unlike(reason, subject=SECRET, operation=Operation.OBTAIN)


def _refresh_auth(reason: FailureReason | None, auth: RefreshAuth) -> Finding:
    subject = "SIDECAR_REFRESH_AUTH"
    if reason in KNOWN_APP:
        return Finding(
            area=Area.AKOYA,
            subject=subject,
            verdict=Verdict.GOOD,
            found=f"Akoya takes the credentials by `{auth.value}`",
        )
    if reason is FailureReason.CLIENT_CREDENTIALS_INVALID:
        other = RefreshAuth.BASIC if auth is RefreshAuth.BODY else RefreshAuth.BODY
        return Finding(
            area=Area.AKOYA,
            subject=subject,
            verdict=Verdict.WRONG,
            found=f"Akoya knows the app, but not by `{auth.value}`",
            advice=f"set SIDECAR_REFRESH_AUTH={other.value}",
        )
    return _unlike(reason, subject=subject, operation=Operation.REFRESH)


def _unlike(reason: FailureReason | None, *, subject: str, operation: Operation) -> Finding:
    """Return the finding where Akoya did not just refuse what was made up."""
    said = "an answer as if it were good" if reason is None else reason.value
    return Finding(
        area=Area.AKOYA,
        subject=subject,
        verdict=Verdict.WRONG if reason in REFUSED_APP else Verdict.UNSEEN,
        found=f"the trial of `{operation.value}` ended with {said}",
        advice="look at SIDECAR_IDP_URL: this is no token service"
        if reason is None
        else HINTS[reason],
    )
