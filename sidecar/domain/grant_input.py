"""What an application may hand in about a grant: which texts are accepted, and what they mean.

Rules on single values only. It must not know JSON, requests or what is done with a value.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final

from sidecar.domain.bounds import EARLIEST_INSTANT_S, FUTURE_MAX_S, LONGEST_TOLD_LIFE_S
from sidecar.domain.policy import DEFAULT_LIFE_S
from sidecar.domain.secret import Secret
from sidecar.domain.token_claims import read_claims
from sidecar.domain.tokens import TokenPair

REFRESH_TOKEN_MAX_BYTES: Final = 8192
ID_TOKEN_MAX_BYTES: Final = 16384
CODE_MAX_BYTES: Final = 4096
REDIRECT_URI_MAX_BYTES: Final = 2048
STATE_MIN_CHARACTERS: Final = 8
STATE_MAX_CHARACTERS: Final = 512

_VISIBLE_ASCII: Final = re.compile(r"[!-~]+")
_ABSOLUTE_URI: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[!\"$-~]+")
_RFC_3339: Final = re.compile(
    r"\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(\.\d{1,9})?([Zz]|[+-]\d{2}:\d{2})", re.ASCII
)


def is_code(text: str) -> bool:
    """Whether an authorization code is visible ASCII of a sane length."""
    return _is_visible_ascii(text, at_most=CODE_MAX_BYTES)


def is_id_token(text: str) -> bool:
    """Whether an id_token can stand in a header: visible ASCII, at most 16 KiB."""
    return _is_visible_ascii(text, at_most=ID_TOKEN_MAX_BYTES)


def is_refresh_token(text: str) -> bool:
    """Whether a refresh token is printable, without blanks, and at most 8 KiB of UTF-8."""
    if not text.isprintable() or " " in text:
        return False
    return 0 < len(text.encode(errors="surrogatepass")) <= REFRESH_TOKEN_MAX_BYTES


def is_redirect_uri(text: str) -> bool:
    """Whether a redirect URI is absolute and has no fragment (RFC 6749 section 3.1.2)."""
    return len(text) <= REDIRECT_URI_MAX_BYTES and _ABSOLUTE_URI.fullmatch(text) is not None


def is_consent_state(text: str) -> bool:
    """Whether a ``state`` can protect a consent: long enough to be unguessable, visible ASCII."""
    return len(text) >= STATE_MIN_CHARACTERS and _is_visible_ascii(
        text, at_most=STATE_MAX_CHARACTERS
    )


def is_span(value: object) -> bool:
    """Whether ``expires_in`` is a number of seconds between none and ten years."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    # The comparison is false for NaN and for both infinities.
    return 0 <= value <= LONGEST_TOLD_LIFE_S


def parse_consent_instant_ms(text: str, *, now_s: float) -> int | None:
    """Return an RFC 3339 instant in milliseconds; ``None``: it is none, or not in this era.

    Args:
        text: What the application says.
        now_s: Wall clock; an instant may be at most five minutes ahead of it, since a consent
            from the future could not be replaced until then.
    """
    if _RFC_3339.fullmatch(text) is None:
        return None
    try:
        at_s = datetime.fromisoformat(text.upper()).timestamp()
    except (ValueError, OverflowError):
        return None
    return round(at_s * 1000) if EARLIEST_INSTANT_S <= at_s <= now_s + FUTURE_MAX_S else None


def read_tokens_from_elsewhere(
    id_token: Secret,
    refresh_token: Secret,
    *,
    expires_in: float | None,
    now_s: float,
    max_age_s: int,
) -> TokenPair:
    """Return the pair with what is left of the id_token's life.

    Its own ``exp`` wins, since a life counted from the hand-over would be too long, and it never
    has more left than its whole life; an id_token that has expired is fine (life 0), for the
    refresh token is what counts.

    Args:
        id_token: The bearer.
        refresh_token: The single-use successor.
        expires_in: Seconds from now on, as the application says, or ``None``.
        now_s: The store's clock (epoch): by it the life is counted.
        max_age_s: Upper bound of the life.
    """
    claims = read_claims(id_token.reveal())
    if claims.expires_at_s:
        life_s = claims.expires_at_s - now_s
        if claims.life_s:
            life_s = min(life_s, claims.life_s)
    else:
        life_s = DEFAULT_LIFE_S if expires_in is None else expires_in
    return TokenPair(
        id_token=id_token,
        refresh_token=refresh_token,
        life_s=max(0, min(int(life_s), max_age_s)),
        issued_at_s=claims.issued_at_s,
        subject=claims.subject,
        akoya_grant_id=claims.akoya_grant_id,
    )


def _is_visible_ascii(text: str, *, at_most: int) -> bool:
    return len(text) <= at_most and _VISIBLE_ASCII.fullmatch(text) is not None
