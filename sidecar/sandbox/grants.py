"""The book of grants: codes, consents, rotating refresh tokens, and which id_tokens still count.

It decides what a code or a token is worth; nothing else does. Time is an argument. It must not know
HTTP, JSON or the words in which a refusal is told.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, TypeAlias, final
from uuid import NAMESPACE_URL, uuid5

from sidecar.sandbox.ids import new_code, new_id, new_refresh_token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sidecar.sandbox.settings import SandboxSettings

Ending: TypeAlias = Literal["replaced", "revoked_by_app", "revoked_at_bank", "reuse"]
Denial: TypeAlias = Literal["unknown", "expired", "spent", "revoked"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Consent:
    """What an end user agreed to at a bank, before the app has fetched tokens for it."""

    user: str
    provider: str
    redirect_uri: str
    accounts: tuple[str, ...]
    scopes: frozenset[str]
    given_at: float


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """One redeemed consent; its refresh tokens are one family."""

    id: str
    consent: Consent
    family: str
    generation: int = 0
    current_token: str | None = field(default=None, repr=False)
    ended: Ending | None = None


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshToken:
    """One refresh token that was ever issued. Generation 0 came with the code."""

    value: str = field(repr=False)
    grant_id: str
    generation: int
    issued_at: float
    spent_at: float | None = None


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """The token set that a successful obtain or refresh brings."""

    grant: Grant
    refresh_token: str | None = field(repr=False)
    in_grace: bool = False


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class CodeRefused:
    """The code buys nothing; `redirect_mismatch` tells the one cause that is told apart."""

    redirect_mismatch: bool


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshRefused:
    """The refresh token buys nothing, and whether presenting it cost the family its life."""

    cause: Denial
    family_revoked: bool = False


@final
class GrantBook:
    """All codes, grants and tokens of one sandbox. Every call is a whole transition."""

    def __init__(self, *, draw_id: Callable[[], str] = new_id) -> None:
        self._draw_id = draw_id
        self._codes: dict[str, Consent] = {}
        self._grants: dict[str, Grant] = {}
        self._live: dict[tuple[str, str], str] = {}
        self._tokens: dict[str, RefreshToken] = {}
        self._id_tokens: dict[str, str] = {}

    def __iter__(self) -> Iterator[Grant]:
        return iter(tuple(self._grants.values()))

    def add_consent(self, consent: Consent, settings: SandboxSettings) -> str:
        """Note a consent and return the authorization code that stands for it."""
        code = new_code(settings.profile)
        self._codes[code] = consent
        return code

    def consent_of(self, code: str) -> Consent | None:
        """Find whose a code is, without using it."""
        return self._codes.get(code)

    def token(self, value: str) -> RefreshToken | None:
        """Find a refresh token that was ever issued, spent or not."""
        return self._tokens.get(value)

    def grant(self, grant_id: str) -> Grant:
        """Return a grant by its id.

        Raises:
            KeyError: there never was one.
        """
        return self._grants[grant_id]

    def redeem(
        self, code: str, *, redirect_uri: str, now: float, settings: SandboxSettings
    ) -> Issued | CodeRefused:
        """Turn a code into a grant, which replaces the one its user had at that provider.

        A code with the wrong redirect URI stays good, as in dex.
        """
        consent = self._codes.get(code)
        if consent is None or now - consent.given_at >= settings.code_life_s:
            return CodeRefused(redirect_mismatch=False)
        if consent.redirect_uri != redirect_uri:
            return CodeRefused(redirect_mismatch=True)
        del self._codes[code]
        self._end_live(consent.user, consent.provider, "replaced")
        grant = Grant(id=_as_uuid(self._draw_id()), consent=consent, family=self._draw_id())
        self._grants[grant.id] = grant
        self._live[consent.user, consent.provider] = grant.id
        if "offline_access" not in consent.scopes:
            return Issued(grant=grant, refresh_token=None)
        return self._issue(grant, generation=0, now=now, settings=settings)

    def rotate(
        self, value: str, *, now: float, settings: SandboxSettings
    ) -> Issued | RefreshRefused:
        """Spend a refresh token for its successor.

        A token presented again within the grace gets another successor beside the first, which
        stays good. Past it dex only refuses; Hydra takes it for theft and ends the family.
        """
        token = self._tokens.get(value)
        if token is None:
            return RefreshRefused(cause="unknown")
        grant = self._grants[token.grant_id]
        if grant.ended is not None:
            return RefreshRefused(cause="revoked")
        if token.spent_at is None:
            life_s = settings.refresh_token_life_s
            if life_s and now - token.issued_at >= life_s:
                return RefreshRefused(cause="expired")
            self._tokens[value] = replace(token, spent_at=now)
        elif now - token.spent_at >= settings.grace_s:
            if settings.profile == "dex":
                return RefreshRefused(cause="spent")
            self._end(grant, "reuse")
            return RefreshRefused(cause="spent", family_revoked=True)
        issued = self._issue(grant, generation=token.generation + 1, now=now, settings=settings)
        return replace(issued, in_grace=token.spent_at is not None)

    def revoke(self, value: str) -> bool:
        """End the grant of a refresh token on the app's behalf; false if it is not a live token."""
        token = self._tokens.get(value)
        if token is None or token.spent_at is not None:
            return False
        grant = self._grants[token.grant_id]
        if grant.ended is not None:
            return False
        self._end(grant, "revoked_by_app")
        return True

    def revoke_consent(self, *, user: str, provider: str | None) -> int:
        """End a user's live grants as the user would at the bank; return how many there were."""
        keys = [key for key in self._live if key[0] == user and provider in (None, key[1])]
        for key in keys:
            self._end_live(*key, "revoked_at_bank")
        return len(keys)

    def note_id_token(self, token_id: str, grant: Grant) -> None:
        """Remember that an id_token was issued for a grant."""
        self._id_tokens[token_id] = grant.id

    def grant_of_id_token(self, token_id: str) -> Grant | None:
        """Find the live grant behind an id_token; none if either has ended."""
        grant_id = self._id_tokens.get(token_id)
        if grant_id is None or self._grants[grant_id].ended is not None:
            return None
        return self._grants[grant_id]

    def expire_id_tokens(self, *, user: str | None, provider: str | None) -> int:
        """Void every id_token issued so far for the user and provider; return how many."""
        voided = [
            token_id
            for token_id, grant_id in self._id_tokens.items()
            if user in (None, self._grants[grant_id].consent.user)
            and provider in (None, self._grants[grant_id].consent.provider)
        ]
        for token_id in voided:
            del self._id_tokens[token_id]
        return len(voided)

    def _issue(
        self, grant: Grant, *, generation: int, now: float, settings: SandboxSettings
    ) -> Issued:
        value = new_refresh_token(settings.profile, family=grant.family)
        self._tokens[value] = RefreshToken(
            value=value, grant_id=grant.id, generation=generation, issued_at=now
        )
        newest = max(grant.generation, generation)
        self._grants[grant.id] = replace(grant, generation=newest, current_token=value)
        return Issued(grant=self._grants[grant.id], refresh_token=value)

    def _end_live(self, user: str, provider: str, ending: Ending) -> None:
        grant_id = self._live.get((user, provider))
        if grant_id is not None:
            self._end(self._grants[grant_id], ending)

    def _end(self, grant: Grant, ending: Ending) -> None:
        self._grants[grant.id] = replace(grant, ended=ending)
        self._live.pop((grant.consent.user, grant.consent.provider), None)


def _as_uuid(drawn: str) -> str:
    """Spell a drawn id as the UUID that a grant id is."""
    return str(uuid5(NAMESPACE_URL, drawn))
