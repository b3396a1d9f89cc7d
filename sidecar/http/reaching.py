"""Asks a URL once with GET, to learn whether anybody is there: for checks, never for data.

No redirect is followed and nothing secret is sent. What an answer means is the caller's business.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, Final, cast

import aiohttp

from sidecar import __version__

LARGEST_DOCUMENT_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How the IdP and the upstream are reached.

    Attributes:
        tls: Whom to trust.
        egress_proxy: URL of an HTTP proxy to go through.
    """

    timeout_s: float
    tls: ssl.SSLContext
    egress_proxy: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """Somebody answered.

    Attributes:
        date_s: When, by the clock over there, to the second; ``None`` where it does not say.
        document: A JSON object, or empty.
    """

    status: int
    date_s: float | None = None
    document: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreached:
    """Nobody answered.

    Attributes:
        error: The class of the error; its text may name anything.
        is_certificate: Whether the certificate was not to be trusted.
    """

    error: str
    is_certificate: bool = False


async def reach(url: str, way: Way) -> Reached | Unreached:
    """Ask `url` and return what came of it."""
    headers = {"Accept": "application/json", "User-Agent": f"akoya-sidecar/{__version__}"}
    timeout = aiohttp.ClientTimeout(total=way.timeout_s)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, trust_env=False, headers=headers) as session,
            session.get(url, ssl=way.tls, proxy=way.egress_proxy, allow_redirects=False) as answer,
        ):
            return Reached(
                status=answer.status,
                date_s=_instant(answer.headers.get("Date", "")),
                document=_document(await _body(answer)),
            )
    except (TimeoutError, aiohttp.ClientError, OSError) as error:
        return Unreached(
            error=type(error).__name__,
            is_certificate=isinstance(error, aiohttp.ClientConnectorCertificateError),
        )


async def _body(answer: aiohttp.ClientResponse) -> bytes:
    """Return the body, or nothing where it is larger than any that is asked for."""
    body = bytearray()
    async for part in answer.content.iter_any():
        body += part
        if len(body) > LARGEST_DOCUMENT_BYTES:
            return b""
    return bytes(body)


def _document(body: bytes) -> Mapping[str, Any]:
    try:
        document: object = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return cast("Mapping[str, Any]", document) if isinstance(document, dict) else {}


def _instant(date: str) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp()
    except (TypeError, ValueError):
        return None
