"""What a chaos run is: how large, how long, what goes wrong, and what must come of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from tests.chaos.evidence import Rules


class Mode(StrEnum):
    """What happens to Redis."""

    NOREDIS = "noredis"
    """It stays up; sidecars lose sight of it now and then."""
    NORMAL = "normal"
    """It is killed as well, and comes back with all that it confirmed."""
    LOSSY = "lossy"
    """It is killed as well, and comes back as it was 0.5 to 2.5 s before."""


class Personality(StrEnum):
    """How the identity provider treats a token that was used."""

    DEX = "dex"
    """It refuses it; the loser of a race gets a 500."""
    HYDRA = "hydra"
    """It ends the whole family for it."""
    GRACE = "grace"
    """It gives further successors for 10 s."""


SETTINGS_OF: Final[Mapping[Personality, Mapping[str, Any]]] = {
    Personality.DEX: {"profile": "dex", "grace_s": 0, "race_error": True},
    Personality.HYDRA: {"profile": "hydra", "grace_s": 0},
    Personality.GRACE: {"profile": "dex", "grace_s": 10},
}

BASE_TIMES: Final[Mapping[str, float]] = {
    "lease_s": 2.0,
    "send_window_s": 1.0,
    "hold_s": 3.0,
    "keep_every_s": 1.0,
    "quarantine_s": 2.0,
    "heal_s": 2.0,
    "acquire_patience_s": 1.0,
    "commit_retry_limit_s": 1.0,
    "backoff_limit_s": 1.0,
    "unknown_backoff_limit_s": 1.0,
    "store_probe_every_s": 0.5,
    "peer_poll_limit_s": 0.5,
    "canary_every_s": 1.0,
}
"""A hold and a healing shorter than the pauses: doubts, deaths and healings come about all day."""

LONG_HOLD_S: Final = 15.0
"""Longer than every pause, as the protocol wants it where a family may be ended for a probe."""


USUAL_WAY: Final = "usual_way"
"""The mutant that is a program of its own, with records of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Goals:
    """What a run must reach, besides no avoidable loss and nothing unexplained."""

    claims: int
    kills: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One run.

    Attributes:
        seconds: How long things go wrong at least; the settling comes after it.
        until_claims: They go on going wrong until there were so many claims.
        dropped: Chance that an answer is thrown away after its token was rotated.
        slowness: Chance that an answer takes 0.5 to 3.5 s.
        rarity: How many times as long as in a quick run it is from one trouble to the next.
        mutant: One of `tests.chaos.mutants`, or ``None`` for the sidecar as it is.
    """

    mode: Mode
    goals: Goals
    personality: Personality = Personality.DEX
    sidecars: int = 3
    users: int = 2000
    seconds: float = 60.0
    until_claims: int = 0
    dropped: float = 0.0
    slowness: float = 0.003
    rarity: float = 1.0
    seed: int = 1
    mutant: str | None = None

    @property
    def times(self) -> dict[str, Any]:
        """The protocol's times, shortened so that a minute sees what a month does."""
        times: dict[str, Any] = dict(BASE_TIMES)
        if self.personality is Personality.HYDRA:
            times["hold_s"] = LONG_HOLD_S
        return times

    @property
    def program(self) -> str:
        """The module that the processes run."""
        if self.mutant == USUAL_WAY:
            return "tests.chaos.mutants.usual_way"
        return "tests.chaos.sidecar_main"

    @property
    def graft(self) -> str | None:
        """The mutation that is grafted onto a sidecar."""
        return None if self.mutant == USUAL_WAY else self.mutant

    @property
    def rules(self) -> Rules:
        """The times that the oracle judges by."""
        times = self.times
        return Rules(
            hold_s=times["hold_s"],
            quarantine_s=times["quarantine_s"],
            grace_s=SETTINGS_OF[self.personality]["grace_s"],
        )
