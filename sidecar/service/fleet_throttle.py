"""The fleet's throttle as one sidecar sees it: renewed by every step, and by a look each second.

Brake and breaker ask here, so a claim costs no call of the store for them. It tells when what holds
the fleet back changes, whoever changed it. It decides nothing (see `sidecar.domain.throttle`).
"""

from __future__ import annotations

from typing import final

from sidecar.domain.events import (
    BrakePulled,
    BrakeReleased,
    BrakeTrialEnded,
    BreakerClosed,
    BreakerName,
    BreakerOpened,
)
from sidecar.domain.throttle import Throttle, ThrottleStep
from sidecar.ports import Observer, TokenStore


@final
class FleetThrottle:
    """What holds the fleet back, as of the store's last answer; `seen` may be read anywhere."""

    def __init__(self, *, store: TokenStore, observer: Observer) -> None:
        self._store = store
        self._observer = observer
        self._seen = Throttle()
        self._answers = 0

    @property
    def seen(self) -> Throttle:
        """The throttle when the store last answered."""
        return self._seen

    async def take(self, step: ThrottleStep) -> bool:
        """Take a step; return whether what was asked for is granted.

        Raises:
            StoreUnavailable: The step may have been taken.
        """
        _, is_granted = await self.answer(step)
        return is_granted

    async def answer(self, step: ThrottleStep) -> tuple[Throttle, bool]:
        """Take a step; return the throttle right after it, and whether it is granted.

        Raises:
            StoreUnavailable: The step may have been taken.
        """
        answers_before = self._answers
        throttle, is_granted = await self._store.throttle(step)
        # An answer that another one overtook may be older than what is known by now.
        was_overtaken = self._answers > answers_before
        self._answers += 1
        if not (was_overtaken and throttle.revision < self._seen.revision):
            before, self._seen = self._seen, throttle
            self._tell(before, throttle)
        return throttle, is_granted

    def _tell(self, before: Throttle, after: Throttle) -> None:
        # Between two looks it may have been let go and pulled again; a start meets a trial.
        was_let_go = before.is_braked and after.braked_at_ms != before.braked_at_ms
        meets_trial = not before.revision and after.trial is not None and not after.is_braked
        if was_let_go or meets_trial:
            is_all = after.free_until_ms > 0
            limit = 0 if is_all or after.trial is None else after.trial.limit
            self._observer.observe(BrakeReleased(limit=limit, is_all=is_all))
        if after.brake_cause is not None and after.braked_at_ms != before.braked_at_ms:
            self._observer.observe(BrakePulled(cause=after.brake_cause, grants=after.grants))
        if before.trial is not None and not before.is_braked and after.trial is None:
            self._observer.observe(BrakeTrialEnded(limit=before.trial.limit))
        if after.is_open and not before.is_open and after.refusal_reason is not None:
            self._observer.observe(
                BreakerOpened(name=BreakerName.CREDENTIALS, reason=after.refusal_reason)
            )
        elif before.is_open and not after.is_open:
            self._observer.observe(BreakerClosed(name=BreakerName.CREDENTIALS))
