"""How a sidecar is, for whoever looks after it: the one account of it, whoever renders it.

The page of the control listener, `GET /status` and `akoya-sidecar status` show this value and add
nothing. What it counts comes from the events that the metrics count. It says nothing secret, and
names no user.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from sidecar.domain.failure import HINTS, FailureReason, Operation
from sidecar.domain.record import GrantId
from sidecar.service.health import Phase


class CheckName(StrEnum):
    """What is looked at, in the order in which it is shown."""

    PROCESS = "process"
    STORE = "store"
    AKOYA = "akoya"
    CREDENTIALS = "credentials"
    BANKS = "banks"
    BRAKE = "brake"
    SPOOL = "spool"
    CLAIMS = "claims"


class Mood(StrEnum):
    """What is thought of it."""

    GOOD = "good"
    WAITING = "waiting"
    """It passes by itself, or is not known yet."""
    BAD = "bad"
    """A person should look."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that is looked at.

    Attributes:
        said: How it is, in a few words.
        hint: What it means and what to do; empty where it is good.
    """

    name: CheckName
    mood: Mood
    said: str
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """A token request that failed.

    Attributes:
        at_s: When, on the wall clock.
        grant: The keyed hash that names it in the logs.
        retry_in_s: When it is asked again, where that is known.
    """

    at_s: float
    operation: Operation
    reason: FailureReason
    provider: str
    grant: GrantId
    retry_in_s: float | None = None

    @property
    def hint(self) -> str:
        """What a person should know."""
        return HINTS[self.reason]


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """A sidecar at one moment.

    Attributes:
        at_s: When, on the wall clock.
        checks: One for each `CheckName`, in its order.
        grants: The fleet's, by state as the API names it; ``None``: another sidecar counts them.
        counted_at_s: When they were counted.
        troubles: The last failures of token requests here, the newest first.
    """

    version: str
    phase: Phase
    at_s: float
    checks: tuple[Check, ...]
    grants: Mapping[str, int] | None
    counted_at_s: float
    troubles: tuple[Trouble, ...]


class StatusSource(Protocol):
    """Who can say how the sidecar is."""

    def status(self) -> Status:
        """Return the state of this moment; must neither block nor raise."""
        ...
