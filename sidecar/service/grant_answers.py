"""What the calls of the grants API can come to, as values without tokens.

It decides nothing; `sidecar.service.grants` gives the answers and the control listener words them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sidecar.domain.outcomes import ConsentSuperseded, ExchangeFailed, GrantGone, Postponed
from sidecar.domain.tokens import TokenFailure
from sidecar.service.grant_views import EventView, GrantView


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """The grant as it stands; `is_new` where there was no record of it before."""

    view: GrantView
    is_new: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A live grant stands against the import."""

    view: GrantView


@dataclass(frozen=True, slots=True, kw_only=True)
class Revoking:
    """The order is kept: Akoya and the store will be told, again and again, until both know.

    Attributes:
        failure: What Akoya said, where it was asked.
    """

    retry_in_s: float
    failure: TokenFailure | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Revoked:
    """The grant is revoked here and at Akoya."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unerased:
    """The grant is revoked; its record can be erased in `wait_s` seconds."""

    view: GrantView
    wait_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StillRunning:
    """The caller has waited long enough; the work goes on, and the grant will show its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CursorUnknown:
    """The cursor is none that this API gave."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantFilter:
    """Which grants a listing shows; ``""``: any.

    Attributes:
        state: As it is shown: ``refreshing`` is a state here.
    """

    state: str = ""
    user: str = ""
    provider: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantPage:
    """Some grants, perhaps none, and where to go on (``""``: that was all)."""

    grants: Sequence[GrantView]
    cursor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EventPage:
    """Changes in order, and the cursor to ask for later ones with."""

    events: Sequence[EventView]
    cursor: str


ObtainAnswer = Shown | ConsentSuperseded | ExchangeFailed | Postponed | StillRunning
ImportAnswer = Shown | Standing | ConsentSuperseded | Postponed | StillRunning
ReadAnswer = Shown | GrantGone | Postponed
ChangeAnswer = Shown | GrantGone | Postponed | StillRunning
RevokeAnswer = (
    Revoked | Revoking | Unerased | GrantGone | ConsentSuperseded | Postponed | StillRunning
)
