"""The grants API without HTTP: each call is a method whose answer is a value.

It lives on the loop that serves requests and reads records there. Whatever changes one runs in the
claim lane, and goes on when the caller leaves or has waited long enough. No answer holds a token.
It does not know how a call came here or what it is answered with.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final, TypeVar, assert_never, final

from sidecar.domain.cursors import CursorKind, parse_cursor, to_opaque
from sidecar.domain.outcomes import (
    ConsentSuperseded,
    FoundNewer,
    GrantExists,
    GrantGone,
    Obstacle,
    Postponed,
    Refreshed,
    RevocationDone,
    RevocationKept,
    Stored,
    Unchanged,
)
from sidecar.domain.record import GrantId, GrantKey, GrantRecord, GrantState, StoredPair
from sidecar.domain.secret import Secret
from sidecar.ports import StoreUnavailable
from sidecar.service.brake_calls import BrakeCalls
from sidecar.service.broker import Broker
from sidecar.service.grant_answers import (
    ChangeAnswer,
    CursorUnknown,
    EventPage,
    GrantFilter,
    GrantPage,
    ImportAnswer,
    ObtainAnswer,
    ReadAnswer,
    RevokeAnswer,
    Revoked,
    Revoking,
    Shown,
    Standing,
    StillRunning,
    Unerased,
)
from sidecar.service.grant_views import EventView, GrantView, GrantViewer
from sidecar.service.obtainer import Import
from sidecar.service.serving_parts import ServingParts
from sidecar.service.steward import Erased, Invalidation, PurgeTooEarly, Steward

ResultT = TypeVar("ResultT")


_STORE_AWAY: Final = Postponed(obstacle=Obstacle.STORE_AWAY, retry_in_s=1.0)


@final
class GrantDesk:
    """Answers the calls of the grants API.

    Attributes:
        brake: Answers those about the fleet's brake.
    """

    def __init__(self, *, parts: ServingParts, broker: Broker, steward: Steward) -> None:
        self._parts = parts
        self._broker = broker
        self._steward = steward
        self._viewer = GrantViewer(vault=parts.vault)
        self.brake = BrakeCalls(
            desk=steward.brake, lane=parts.lane, wait_s=parts.policy.exchange_wait_s
        )

    def grant_id(self, key: GrantKey) -> GrantId:
        """Return the keyed hash that names the grant in logs."""
        return self._parts.vault.grant_id(key)

    def now_ms(self) -> int:
        """Return the store's time, by which everything in a record is told."""
        return self._parts.store_clock.now_ms()

    async def show(self, key: GrantKey) -> ReadAnswer:
        """Return the grant as the store has it."""
        try:
            record = await self._parts.store.read(self.grant_id(key))
        except StoreUnavailable:
            return _STORE_AWAY
        if record is None:
            return GrantGone(state=None)
        return Shown(view=self._view(key, record))

    async def obtain(self, key: GrantKey, code: Secret, *, redirect_uri: str) -> ObtainAnswer:
        """Exchange an authorization code and store the pair."""
        outcome = await self._change(
            key,
            lambda: self._steward.obtain(key, code, redirect_uri=redirect_uri),
            where="obtain",
        )
        return self._shown(key, outcome) if isinstance(outcome, Stored) else outcome

    async def take_over(self, order: Import) -> ImportAnswer:
        """Store tokens that were obtained elsewhere."""
        outcome = await self._change(
            order.key, lambda: self._steward.take_over(order), where="import"
        )
        match outcome:
            case Stored():
                return self._shown(order.key, outcome)
            case Unchanged():
                return Shown(view=self._view(order.key, outcome.record))
            case GrantExists():
                return Standing(view=self._view(order.key, outcome.record))
            case ConsentSuperseded() | Postponed() | StillRunning():
                return outcome
            case _:
                assert_never(outcome)

    async def refresh(self, key: GrantKey, *, overrides_backoff: bool = False) -> ReadAnswer:
        """Replace the grant's pair now; a person may skip its backoff, and nothing else."""
        try:
            record = await self._parts.store.read(self.grant_id(key))
        except StoreUnavailable:
            return _STORE_AWAY
        if record is None or record.state.is_dead:
            return GrantGone(state=None if record is None else record.state)
        known_wait = self._broker.known_wait(record)
        is_overridden = overrides_backoff and (
            known_wait is not None and known_wait.obstacle is Obstacle.BACKING_OFF
        )
        if known_wait is not None and not is_overridden:
            return known_wait
        outcome = await self._broker.renew(
            key,
            known=record.position,
            wait_s=self._parts.policy.exchange_wait_s,
            overrides_backoff=overrides_backoff,
        )
        match outcome:
            case Refreshed():
                return Shown(view=self._view(key, self._as_stored(outcome.pair)))
            case FoundNewer():
                return Shown(view=self._view(key, outcome.record))
            case GrantGone() | Postponed():
                return outcome
            case _:
                assert_never(outcome)

    async def invalidate(self, key: GrantKey) -> ChangeAnswer:
        """Mark the grant ``reauth_required`` without asking Akoya."""
        outcome = await self._change(
            key, lambda: self._steward.invalidate(key), where="invalidation"
        )
        if isinstance(outcome, Invalidation):
            return Shown(view=self._view(key, outcome.record))
        return outcome

    async def revoke(self, key: GrantKey) -> RevokeAnswer:
        """Revoke the grant here and at Akoya."""
        outcome = await self._change(key, lambda: self._steward.revoke(key), where="revocation")
        match outcome:
            case RevocationDone():
                return Revoked()
            case RevocationKept():
                return Revoking(retry_in_s=outcome.retry_in_s, failure=outcome.failure)
            case StillRunning():
                return await self._as_far_as(key)
            case GrantGone() | Postponed():
                return outcome
            case _:
                assert_never(outcome)

    async def purge(self, key: GrantKey) -> RevokeAnswer:
        """Revoke the grant if it is not, and erase its record as soon as that is safe."""
        outcome = await self._change(key, lambda: self._steward.purge(key), where="purge")
        match outcome:
            case Erased():
                return Revoked()
            case RevocationKept():
                return Revoking(retry_in_s=outcome.retry_in_s, failure=outcome.failure)
            case PurgeTooEarly():
                return Unerased(view=self._view(key, outcome.record), wait_s=outcome.wait_s)
            case StillRunning():
                answer = await self._as_far_as(key)
                return answer if isinstance(answer, Revoking) else outcome
            case GrantGone() | ConsentSuperseded() | Postponed():
                return outcome
            case _:
                assert_never(outcome)

    async def page(
        self, wanted: GrantFilter, *, cursor: str, limit: int
    ) -> GrantPage | CursorUnknown | Postponed:
        """Return some of the grants; every page costs the same, whatever the filter lets through.

        Args:
            wanted: With both a user and a provider, that one grant is read and nothing scanned.
            cursor: Of the page before, or ``""``.
            limit: How many records are looked at, not how many are shown.
        """
        start = parse_cursor(CursorKind.GRANTS, cursor)
        if start is None:
            return CursorUnknown()
        try:
            if wanted.user and wanted.provider:
                key = GrantKey(user=wanted.user, provider=wanted.provider)
                record = await self._parts.store.read(self.grant_id(key))
                views = [] if record is None else [self._view(key, record)]
                following = ""
            else:
                following, found = await self._parts.store.scan(start, limit)
                views = [self._viewer.view(grant, record) for grant, record in found]
        except StoreUnavailable:
            return _STORE_AWAY
        return GrantPage(
            grants=tuple(view for view in views if _is_wanted(view, wanted)),
            cursor=to_opaque(CursorKind.GRANTS, following),
        )

    async def events(self, *, cursor: str, limit: int) -> EventPage | CursorUnknown | Postponed:
        """Return changes of state after `cursor`, the oldest that is kept first."""
        start = parse_cursor(CursorKind.EVENTS, cursor)
        if start is None:
            return CursorUnknown()
        owners: dict[GrantId, GrantKey | None] = {}
        try:
            entries = await self._parts.store.feed(start, limit)
            for entry in entries:
                if entry.grant not in owners:
                    record = await self._parts.store.read(entry.grant)
                    owners[entry.grant] = (
                        None if record is None else self._viewer.owner(entry.grant, record.pair)
                    )
        except StoreUnavailable:
            return _STORE_AWAY
        events = tuple(
            EventView(
                cursor=to_opaque(CursorKind.EVENTS, entry.cursor),
                entry=entry,
                key=owners[entry.grant],
            )
            for entry in entries
        )
        return EventPage(events=events, cursor=events[-1].cursor if events else cursor)

    async def _change(
        self, key: GrantKey, work: Callable[[], Awaitable[ResultT]], *, where: str
    ) -> ResultT | StillRunning:
        """Have work of the lane done; only the waiting has an end."""
        try:
            async with asyncio.timeout(self._parts.policy.exchange_wait_s):
                return await self._parts.lane.run(work, where=where)
        except TimeoutError:
            return StillRunning()
        finally:
            self._broker.forget(key)

    async def _as_far_as(self, key: GrantKey) -> RevokeAnswer:
        """Tell how far a revocation has come that takes too long: Akoya may just not answer."""
        answer = await self.show(key)
        if not isinstance(answer, Shown):
            return StillRunning()
        match answer.view.state:
            case GrantState.REVOKED:
                return Revoked()
            case GrantState.REVOKING:
                return Revoking(retry_in_s=self._parts.times.revoke_retry_s, failure=None)
            case _:
                return StillRunning()

    def _shown(self, key: GrantKey, stored: Stored) -> Shown:
        view = self._view(key, self._as_stored(stored.pair))
        return Shown(view=view, is_new=stored.is_new)

    def _as_stored(self, pair: StoredPair) -> GrantRecord:
        """Return the record that a pair of this moment makes."""
        return GrantRecord(pair=pair, committed_at_ms=self._parts.store_clock.now_ms())

    def _view(self, key: GrantKey, record: GrantRecord) -> GrantView:
        return replace(self._viewer.view(self.grant_id(key), record), key=key)


def _is_wanted(view: GrantView, wanted: GrantFilter) -> bool:
    if wanted.state and view.state.public != wanted.state:
        return False
    if not (wanted.user or wanted.provider):
        return True
    if view.key is None:
        return False
    return (not wanted.user or view.key.user == wanted.user) and (
        not wanted.provider or view.key.provider == wanted.provider
    )
