"""What the handlers of one sandbox share: its settings, books, signer, clock and limiter.

It owns the moving parts and decides nothing about a request. It must not know routes or pages.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, TypeAlias, final

from sidecar.sandbox.faults import FaultBook
from sidecar.sandbox.grants import Consent, GrantBook
from sidecar.sandbox.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.sandbox.id_tokens import IdTokenSigner
    from sidecar.sandbox.settings import SandboxSettings

Clock: TypeAlias = "Callable[[], float]"

ALL_SCOPES: Final = frozenset({"openid", "profile", "offline_access"})


def utc_now() -> float:
    """Read the wall clock: Unix time in seconds."""
    return datetime.now(UTC).timestamp()


@final
class RateLimiter:
    """Counts the requests of the last second; the rate is an argument, since it can change."""

    def __init__(self) -> None:
        self._admitted_at: deque[float] = deque()

    def admits(self, *, now: float, rate: float) -> bool:
        """Tell whether one more request fits into this second; a rate of 0 admits all."""
        if rate == 0:
            return True
        while self._admitted_at and now - self._admitted_at[0] >= 1:
            self._admitted_at.popleft()
        if len(self._admitted_at) >= rate:
            return False
        self._admitted_at.append(now)
        return True


@final
@dataclass(slots=True, kw_only=True)
class Elsewhere:
    """What arrived at the place a redirect fault leads to: credentials there are a leak."""

    arrivals: int = 0
    with_authorization: int = 0
    with_body: int = 0


@final
@dataclass(slots=True, kw_only=True)
class World:
    """Everything that changes while a sandbox runs, and what it needs to change it."""

    settings: SandboxSettings
    signer: IdTokenSigner
    clock: Clock = utc_now
    url: str = ""
    grants: GrantBook = field(default_factory=GrantBook)
    ledger: Ledger = field(default_factory=Ledger)
    faults: FaultBook = field(default_factory=FaultBook)
    limiter: RateLimiter = field(default_factory=RateLimiter)
    elsewhere: Elsewhere = field(default_factory=Elsewhere)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def issuer(self) -> str:
        """The base URL that tokens and discovery name, without a final slash."""
        return (self.settings.public_url or self.url).rstrip("/")

    def give_consent(
        self,
        *,
        user: str,
        provider: str,
        redirect_uri: str,
        accounts: tuple[str, ...],
        scopes: frozenset[str] = ALL_SCOPES,
    ) -> str:
        """Let an end user agree and return the authorization code for the app."""
        consent = Consent(
            user=user,
            provider=provider,
            redirect_uri=redirect_uri,
            accounts=accounts,
            scopes=scopes,
            given_at=self.clock(),
        )
        return self.grants.add_consent(consent, self.settings)

    async def pause(self, delay_s: float) -> bool:
        """Wait, and tell whether the wait ran its course; the sandbox's stop cuts it short."""
        if delay_s > 0:
            try:
                async with asyncio.timeout(delay_s):
                    await self.stopping.wait()
            except TimeoutError:
                return True
        return not self.stopping.is_set()
