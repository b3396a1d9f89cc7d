"""What an id_token tells about itself: its life, its owner, its grant; nothing is verified here.

The sidecar is not the audience of the token's claims, it only wants to know how long the bearer is
good and whose it is, so the payload is read without its signature. A token that cannot be read is
still a bearer. This module must not know HTTP, answers or what a token is used for.
"""

from __future__ import annotations

import base64
import json
import math
import re
from dataclasses import dataclass
from typing import Final, cast

from sidecar.domain.bounds import EARLIEST_INSTANT_S, LATEST_INSTANT_S, LONGEST_TOLD_LIFE_S
from sidecar.domain.policy import DEFAULT_LIFE_S

MAX_CLAIM_CHARS: Final = 255

_DIGITS: Final = re.compile(r"[0-9]{1,9}", re.ASCII)
_SEGMENTS_OF_A_JWT: Final = 3
_ROUNDING_S: Final = 1
"""``iat`` and ``Date`` are whole seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IdTokenClaims:
    """The claims that matter here; each is 0 or ``""`` where absent or not to be believed.

    Attributes:
        issued_at_s: ``iat`` on the IdP's clock.
        expires_at_s: ``exp`` on the IdP's clock.
        life_s: ``exp - iat``.
        subject: ``sub``.
        akoya_grant_id: ``grant_id``.
    """

    issued_at_s: int = 0
    expires_at_s: int = 0
    life_s: int = 0
    subject: str = ""
    akoya_grant_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuerMoment:
    """When an answer was made, as far as it can be told without a clock of ours.

    Attributes:
        date_s: Its ``Date``, on the clock of the IdP (epoch).
        took_s: Time from the sending of the request to the reading of the answer, or more.
    """

    date_s: int
    took_s: float


def read_claims(id_token: str) -> IdTokenClaims:
    """Return what the token says of itself; of a token that is no JWT: nothing, never an error."""
    payload = _payload(id_token)
    issued_at_s = _instant(payload.get("iat"))
    expires_at_s = _instant(payload.get("exp"))
    is_sane = 0 < issued_at_s < expires_at_s
    return IdTokenClaims(
        issued_at_s=issued_at_s,
        expires_at_s=expires_at_s,
        life_s=expires_at_s - issued_at_s if is_sane else 0,
        subject=read_text(payload.get("sub")),
        akoya_grant_id=read_text(payload.get("grant_id")),
    )


def trusted_life_s(
    claims: IdTokenClaims, *, expires_in: object, max_age_s: int, moment: IssuerMoment | None = None
) -> int:
    """Return how long to trust an id_token, counted from when its request was sent.

    The token was issued after that, or before it where the IdP had kept it; so what is returned
    ends no later than the token does, on whatever clock, however late the answer was read.

    Args:
        claims: Of the token; its own life wins, as both instants are of the IdP's clock.
        expires_in: The answer's member, as it came. With some IdPs it speaks of the access token,
            so it is only the second choice.
        max_age_s: Upper bound, whatever the others say.
        moment: When the IdP answered, by its own clock; ``None``: unknown.
    """
    life_s = claims.life_s - age_when_asked_s(claims, moment)
    if not life_s and moment is not None:  # it tells only when it ends
        life_s = max(0, claims.expires_at_s - moment.date_s)
    life_s = life_s or read_seconds(expires_in) or DEFAULT_LIFE_S
    return min(life_s, max_age_s)


def age_when_asked_s(claims: IdTokenClaims, moment: IssuerMoment | None) -> int:
    """Return how old an id_token was when it was asked for; 0 unless the IdP's own clock shows it.

    An IdP may hand out a token that it issued for an earlier request. That is known where the token
    is older than the whole exchange took; the age then counts up to the answer, which errs on the
    early side. A date outside the token's life is of another clock and is not believed.
    """
    if moment is None or not claims.life_s or moment.date_s >= claims.expires_at_s:
        return 0
    age_s = moment.date_s - claims.issued_at_s
    return age_s if age_s > moment.took_s + _ROUNDING_S else 0


def read_seconds(value: object) -> int:
    """Return a span told as a number or a string of digits; 0 if it is not to be believed."""
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0
    # The comparison is false for NaN and for both infinities.
    return int(value) if 1 <= value <= LONGEST_TOLD_LIFE_S else 0


def read_text(value: object) -> str:
    """Return a short printable text, or ``""`` for anything else."""
    if not isinstance(value, str) or len(value) > MAX_CLAIM_CHARS or not value.isprintable():
        return ""
    return value


def _instant(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0
    if not EARLIEST_INSTANT_S <= value < LATEST_INSTANT_S:
        return 0
    return math.floor(value)


def _payload(id_token: str) -> dict[str, object]:
    segments = id_token.split(".")
    if len(segments) != _SEGMENTS_OF_A_JWT:
        return {}
    encoded = segments[1]
    try:
        decoded = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
        payload: object = json.loads(decoded)
    except (ValueError, RecursionError):
        return {}
    return cast("dict[str, object]", payload) if isinstance(payload, dict) else {}
