"""What must come of a claim that is hit at a step: one row for each case, and why.

The steps are those of "One refresh, step by step" in the explanation of the refresh protocol; a
fault strikes before the step, when the one before it is done. The rows are those of "What happens
if the process dies". Each case: a fault, a step, and what happens to the store in that moment.

- ``kill``: SIGKILL, then the sidecar is started again on the same disk. A real process.
- ``stop``: SIGSTOP for longer than lease and hold, while another sidecar is asked. A real process.
- ``exception``: a fault of ours is raised there, and the process lives on.
- ``cancel``: the drain's time is over there, the lane is abandoned, the sidecar starts again.

``exception`` and ``cancel`` happen within one process and need no kernel, so they run in virtual
time: a real process would add nothing but its start.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from sidecar.domain.events import LossCause
from sidecar.domain.record import GrantState

STEPS: Final = range(1, 14)


class Fault(StrEnum):
    """What hits the claim."""

    KILL = "kill"
    STOP = "stop"
    EXCEPTION = "exception"
    CANCEL = "cancel"


REAL: Final = frozenset({Fault.KILL, Fault.STOP})
"""What takes a real process."""


class Store(StrEnum):
    """What happens to the store in that moment."""

    OK = "ok"
    AWAY = "away"
    """It is silent until the claim's owner has been started again, or continued."""
    ROLLED_BACK = "rolled back"
    """It restarts with what it knew before the claim."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One fault at one step."""

    step: int
    fault: Fault
    store: Store

    def __str__(self) -> str:
        return f"step {self.step:>2}, {self.fault.value}, store {self.store.value}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a grant stands when all is well again.

    Attributes:
        attempts: Presentations of the token that the claim was about.
        why: What explains the state, and each attempt beyond the first.
        loss: As what a lost pair was told; ``None``: none was.
        meanwhile: Of a stopped claim: what the other sidecar makes of the grant.
    """

    state: GrantState
    attempts: int
    why: str
    loss: LossCause | None = None
    meanwhile: GrantState = GrantState.ACTIVE


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a case came to.

    Attributes:
        attempts: Presentations of the token that the claim was about.
        is_repeated: Whether a later token was presented more than once.
        losses: What was told as lost.
        meanwhile: Of a stopped claim: what the other sidecar made of the grant, if it was asked.
    """

    state: GrantState
    attempts: int
    is_repeated: bool = False
    losses: tuple[LossCause, ...] = ()
    meanwhile: GrantState | None = None

    def is_as(self, wanted: Outcome) -> bool:
        """Whether this is what was wanted."""
        return (
            self.state is wanted.state
            and self.attempts == wanted.attempts
            and not self.is_repeated
            and self.losses == (() if wanted.loss is None else (wanted.loss,))
            and self.meanwhile in (None, wanted.meanwhile)
        )


CASES: Final = tuple(
    Case(step=step, fault=fault, store=store)
    for fault in Fault
    for store in Store
    for step in STEPS
)

ONCE: Final = Outcome(state=GrantState.ACTIVE, attempts=1, why="presented once")


def expected(case: Case) -> Outcome:
    """Return what must come of a case."""
    match case.fault:
        case Fault.KILL:
            return _killed(case)
        case Fault.STOP:
            return _stopped(case)
        case Fault.EXCEPTION | Fault.CANCEL:
            return _within(case)


def _killed(case: Case) -> Outcome:
    match case.step:
        case 1:
            return replace(ONCE, why="nothing had happened")
        case 2 | 3 | 4 | 5:
            return replace(ONCE, why="nothing was sent, and the lease ends")
        case 6 | 7 if case.store is Store.ROLLED_BACK:
            return replace(ONCE, why="the mark is forgotten, and nothing was sent")
        case 6 | 7:
            return replace(ONCE, why="its restart adopts the claim at once")
        case 8:
            why = "the repetition wins the race against the dead claim, which comes too late"
            return Outcome(state=GrantState.ACTIVE, attempts=2, why=why)
        case 9:
            return _lost(case, "the answer died with its reader: the one unavoidable loss")
        case 10:
            return replace(ONCE, why="the restart reads the raw answer again")
        case 11 | 12:
            return replace(ONCE, why="the restart replays the pair before anything else")
        case _:
            return replace(ONCE, why="the replay is a duplicate, or brings back what was forgotten")


def _lost(case: Case, why: str) -> Outcome:
    is_forgotten = case.store is Store.ROLLED_BACK
    return Outcome(
        state=GrantState.REAUTH_REQUIRED,
        attempts=2,
        why=why,
        loss=LossCause.STORE_ROLLBACK if is_forgotten else LossCause.OWNER_DIED,
    )


def _stopped(case: Case) -> Outcome:
    if case.store is Store.AWAY:
        return replace(ONCE, why="nobody else can claim meanwhile; what was read is stored later")
    match case.step:
        case 1 | 2 | 3 | 4 | 5:
            return replace(ONCE, why="another owner takes over, and a late mark is refused")
        case 6:
            return replace(ONCE, why="the send window is over, so nothing is sent")
        case 7:
            why = "between the last check and the first byte: one needless presentation, healed"
            return Outcome(state=GrantState.ACTIVE, attempts=2, why=why)
        case 8:
            why = "the other one's probe wins the race against the held request"
            return Outcome(state=GrantState.ACTIVE, attempts=2, why=why)
        case 13 if case.store is Store.OK:
            return replace(ONCE, why="the pair was stored before the stop")
        case _:
            forgot = "the store forgot and the holder stood still"
            why = forgot if case.store is Store.ROLLED_BACK else "a probe past the hold"
            return Outcome(
                state=GrantState.ACTIVE,
                attempts=2,
                why=f"{why}, denied and doubted; the owner wakes and heals it",
                meanwhile=GrantState.IN_DOUBT,
            )


def _within(case: Case) -> Outcome:
    is_cancelled = case.fault is Fault.CANCEL
    match case.step:
        case 1 | 2 | 3 | 4 | 5:
            return replace(ONCE, why="nothing was sent, and the lease is given back, or ends")
        case 6 | 7 if is_cancelled:
            # Nothing is awaited from the mark to the first byte, so a cancellation lands after it.
            lost = _lost(case, "the request had left, and its answer died with its reader")
            # The end is told to a store that is there, and then nobody takes it for a death.
            is_told = case.store is Store.OK
            return replace(lost, loss=LossCause.RESPONSE_LOST) if is_told else lost
        case 6 | 7:
            return replace(ONCE, why="nothing was sent, and the claim is given back")
        case 8:
            why = "the request was lost, and is repeated by whoever knows that it was"
            return Outcome(state=GrantState.ACTIVE, attempts=2, why=why)
        case 9 | 10:
            return replace(ONCE, why="the answer is read again, at the latest by the restart")
        case _:
            return replace(ONCE, why="the pair is on the disk, and stored by housekeeping")
