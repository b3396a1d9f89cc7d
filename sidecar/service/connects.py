"""Consent in the browser without HTTP: a link, the way to the bank, the way back.

An order lies sealed in the store from the making of its link to its end, under a name that only
the link yields, then only the ``state`` and the browser together. So each is used once in the whole
fleet, and a browser that did not begin uses up nothing. It knows no page and no cookie.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hmac import compare_digest
from typing import Final, assert_never, final

from sidecar.domain.connecting import (
    JOURNEY_LIFE_S,
    LINK_LIFE_S,
    OF_AUTHORIZE_ERRORS,
    AuthorizeError,
    ConnectOrder,
    outcome_of_failure,
)
from sidecar.domain.events import ConnectOutcome
from sidecar.domain.outcomes import ConsentSuperseded, ExchangeFailed, Obstacle, Postponed
from sidecar.domain.record import GrantId
from sidecar.domain.return_targets import ReturnTarget, is_return_to, with_outcome
from sidecar.domain.secret import Secret
from sidecar.domain.token_requests import AuthorizeQuery, authorize_url
from sidecar.ports import Deposits, Entropy, SealError, StoreUnavailable
from sidecar.service.grant_answers import ObtainAnswer, Shown, StillRunning
from sidecar.service.grants import GrantDesk
from sidecar.service.vault import Vault

_UNREADABLE: Final = "unreadable"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectTerms:
    """What an operator decided about consent in the browser.

    Attributes:
        url: Where browsers reach the connect listener: an origin, without a slash at its end.
        targets: Where people may be sent back to.
        idp_url: Akoya's, for the authorize page.
        client_id: The app's, at Akoya.
        scope: Space separated.
    """

    url: str
    targets: Sequence[ReturnTarget]
    idp_url: str
    client_id: str
    scope: str

    @property
    def redirect_uri(self) -> str:
        """Where Akoya sends people back to; the app registers it there."""
        return f"{self.url}/callback"


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkMade:
    """A URL for the person whom the order concerns, and nobody else."""

    url: Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkShown:
    """A link that can be used.

    Attributes:
        browser: What this browser is to keep and to show again.
        proof: Comes back with the form, and belongs to this link in this browser alone.
    """

    order: ConnectOrder
    browser: Secret
    proof: Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """The link is used up; `url` is Akoya's page for this person."""

    url: Secret
    grant: GrantId
    provider: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a visit ended.

    Attributes:
        reason: Why, from closed sets; or ``""``.
        return_url: Where the person goes on, or ``""`` where nobody knows.
    """

    outcome: ConnectOutcome
    reason: str = ""
    return_url: str = ""
    grant: GrantId | None = None
    provider: str = ""


_POSTPONED: Final = Ending(outcome=ConnectOutcome.POSTPONED, reason=Obstacle.STORE_AWAY)


@final
class ConnectDesk:
    """Makes links, and leads people from them to the bank and back."""

    def __init__(
        self,
        *,
        terms: ConnectTerms,
        deposits: Deposits,
        vault: Vault,
        entropy: Entropy,
        desk: GrantDesk,
    ) -> None:
        self._terms = terms
        self._deposits = deposits
        self._vault = vault
        self._entropy = entropy
        self._desk = desk

    def allows_return_to(self, url: str) -> bool:
        """Whether a person may be sent back there."""
        return is_return_to(url, self._terms.targets)

    async def make_link(self, order: ConnectOrder) -> LinkMade | Postponed:
        """Return a link that is good for five minutes and once; `order` was checked before."""
        ticket = Secret(self._entropy.new_id())
        try:
            await self._keep(self._name_of_ticket(ticket), order, life_s=LINK_LIFE_S)
        except StoreUnavailable:
            return Postponed(obstacle=Obstacle.STORE_AWAY, retry_in_s=1.0)
        return LinkMade(url=Secret(f"{self._terms.url}/connect/{ticket.reveal()}"))

    async def look(self, ticket: Secret, browser: Secret | None) -> LinkShown | Ending:
        """Return what a link is for; nothing is used up."""
        name = self._name_of_ticket(ticket)
        try:
            envelope = await self._deposits.peek(name)
        except StoreUnavailable:
            return _POSTPONED
        order = self._opened(name, envelope, unless=ConnectOutcome.LINK_UNKNOWN)
        if isinstance(order, Ending):
            return order
        browser = browser or Secret(self._entropy.new_id())
        return LinkShown(order=order, browser=browser, proof=self._proof(ticket, browser))

    async def begin(
        self, ticket: Secret, browser: Secret | None, proof: Secret | None
    ) -> Begun | Ending:
        """Use a link up in the browser that was shown its page."""
        if browser is None or proof is None or not _is_same(proof, self._proof(ticket, browser)):
            return Ending(outcome=ConnectOutcome.FORM_REFUSED)
        name = self._name_of_ticket(ticket)
        state = self._entropy.new_id()
        try:
            envelope = await self._deposits.peek(name)
            order = self._opened(name, envelope, unless=ConnectOutcome.LINK_UNKNOWN)
            if isinstance(order, Ending):
                return order
            # First the journey, then the link: a store that fails in between leaves the link.
            journey = self._name_of_journey(state, browser)
            await self._keep(journey, order, life_s=JOURNEY_LIFE_S)
            if await self._deposits.take(name) is None:
                return Ending(outcome=ConnectOutcome.LINK_UNKNOWN)
        except StoreUnavailable:
            return _POSTPONED
        asked = AuthorizeQuery(
            client_id=self._terms.client_id,
            connector=order.key.provider,
            redirect_uri=self._terms.redirect_uri,
            scope=self._terms.scope,
            state=state,
        )
        return Begun(
            url=Secret(authorize_url(self._terms.idp_url, asked)),
            grant=self._desk.grant_id(order.key),
            provider=order.key.provider,
        )

    async def finish(
        self, state: str, browser: Secret | None, answer: Secret | AuthorizeError
    ) -> Ending:
        """Take in what a person brings back from Akoya: a code, or what was said instead."""
        if browser is None:
            return Ending(outcome=ConnectOutcome.OTHER_BROWSER)
        journey = self._name_of_journey(state, browser)
        try:
            envelope = await self._deposits.take(journey)
        except StoreUnavailable:
            return _POSTPONED
        order = self._opened(journey, envelope, unless=ConnectOutcome.STATE_UNKNOWN)
        if isinstance(order, Ending):
            return order
        if isinstance(answer, AuthorizeError):
            ending = Ending(outcome=OF_AUTHORIZE_ERRORS[answer], reason=answer)
        else:
            ending = _ending_of(
                await self._desk.obtain(order.key, answer, redirect_uri=self._terms.redirect_uri)
            )
            if ending.outcome is ConnectOutcome.POSTPONED:
                await self._put_back(journey, order)
        return self._addressed(ending, order)

    def _addressed(self, ending: Ending, order: ConnectOrder) -> Ending:
        back = with_outcome(order.return_to, ending.outcome) if ending.outcome.is_told else ""
        grant = self._desk.grant_id(order.key)
        return replace(ending, return_url=back, grant=grant, provider=order.key.provider)

    async def _put_back(self, journey: str, order: ConnectOrder) -> None:
        """Let the person try again with the code, which nobody has seen yet."""
        try:
            await self._keep(journey, order, life_s=LINK_LIFE_S)
        except StoreUnavailable:
            return  # then the page says in vain to try again, and the next one to begin anew

    async def _keep(self, name: str, order: ConnectOrder, *, life_s: int) -> None:
        envelope = self._vault.seal_order(name, order)
        await self._deposits.deposit(name, envelope, ttl_ms=life_s * 1000)

    def _opened(
        self, name: str, envelope: bytes | None, *, unless: ConnectOutcome
    ) -> ConnectOrder | Ending:
        """Return the order, or how a visit without one ends."""
        if envelope is None:
            return Ending(outcome=unless)
        try:
            order = self._vault.open_order(name, envelope)
        except SealError:
            return Ending(outcome=ConnectOutcome.FAILED, reason=_UNREADABLE)
        if not self.allows_return_to(order.return_to):
            return Ending(outcome=ConnectOutcome.RETURN_REFUSED)
        return order

    def _name_of_ticket(self, ticket: Secret) -> str:
        return f"ticket:{self._hash('ticket', ticket)}"

    def _name_of_journey(self, state: str, browser: Secret) -> str:
        return f"journey:{self._hash('journey', Secret(state), browser)}"

    def _proof(self, ticket: Secret, browser: Secret) -> Secret:
        return Secret(self._hash("proof", ticket, browser))

    def _hash(self, purpose: str, *secrets: Secret) -> str:
        """Return a keyed hash; a space parts what never has one."""
        named = " ".join(("connect", purpose, *(secret.reveal() for secret in secrets)))
        return self._vault.fingerprint(Secret(named))


def _ending_of(answer: ObtainAnswer) -> Ending:
    """Return what an exchange means for the person; a newer consent of theirs is a connection."""
    match answer:
        case Shown() | ConsentSuperseded():
            return Ending(outcome=ConnectOutcome.CONNECTED)
        case StillRunning():
            return Ending(outcome=ConnectOutcome.PENDING)
        case ExchangeFailed(failure=failure):
            return Ending(outcome=outcome_of_failure(failure), reason=failure.reason)
        case Postponed(obstacle=obstacle):
            return Ending(outcome=ConnectOutcome.POSTPONED, reason=obstacle)
        case _:
            assert_never(answer)


def _is_same(shown: Secret, wanted: Secret) -> bool:
    return compare_digest(shown.reveal().encode(errors="surrogatepass"), wanted.reveal().encode())
