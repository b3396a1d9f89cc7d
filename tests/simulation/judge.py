"""Says at the end of a story what must be true of every grant, and why each token was presented.

It reads the token service's ledger, every disk, the store, and the witness' notes of who could not
work when. It must not know the rules by which a sidecar decides.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final, final

from sidecar.domain.record import DEAD_STATES, GrantId, GrantKey, GrantRecord, GrantState
from sidecar.domain.spooled import PairReceived, RevocationOrdered
from tests.simulation.witness import EVERYBODY, Sending
from tests.support.rotating_idp import Fault, Presentation, Temper

if TYPE_CHECKING:
    from tests.simulation.story import Story

UNSETTLED: Final = (GrantState.LEASED, GrantState.SENDING, GrantState.IN_DOUBT)
AT_ONCE_S: Final = 1.0
STANDSTILLS: Final = ("dead", "stopped", "left", "cut", "outage", "restart", "rollback")


@final
class Judge:
    """Judges one story that has become well."""

    def __init__(self, story: Story, *, is_faultless: bool, report: Callable[[str], None]) -> None:
        self._story = story
        self._fleet = story.fleet
        self._idp = story.fleet.idp
        self._witness = story.witness
        self._is_faultless = is_faultless
        self._report = report
        self._rollbacks = [
            span.from_s for span in self._witness.impairments if span.kind == "rollback"
        ]

    def judge(self) -> None:
        """Report whatever is not as it must be."""
        self._judge_presentations()
        for key in self._story.keys:
            self._judge_grant(key, self._fleet.peers[0].parts.grant(key))
        for peer in self._fleet.peers:
            if peer.leftovers():
                self._report(f"{peer.name} is not at rest: {peer.leftovers()}")

    # --- grants -----------------------------------------------------------------------------------

    def _judge_grant(self, key: GrantKey, grant: GrantId) -> None:
        """I8 and I11: the store holds the live pair, or nobody could; what was revoked is dead."""
        live = self._idp.live_tokens(key)
        held = [token for token in self._newest(live) if not self._is_lost(token)]
        record = self._fleet.store.records.get(grant)
        if record is not None and record.state in UNSETTLED:
            self._report(f"I8: {key.user} is still {record.state}")
        if live and not held:
            self._story.reached["lost"] += 1
            return
        if self._is_consented_twice_at_once(key):
            self._story.reached["two consents at once"] += 1
            return
        if self._is_ordered_dead(key, grant):
            self._judge_revoked(key, record, held)
        elif held:
            self._judge_alive(key, grant, record, held)

    def _judge_revoked(self, key: GrantKey, record: GrantRecord | None, held: list[str]) -> None:
        # A rollback may undo a revocation that was carried out; its tokens stay dead.
        dead = DEAD_STATES if self._rollbacks else {GrantState.REVOKED}
        if held or (record is not None and record.state not in dead):
            self._report(f"I11: {key.user} is {record and record.state}, live: {held}")

    def _judge_alive(
        self, key: GrantKey, grant: GrantId, record: GrantRecord | None, held: list[str]
    ) -> None:
        if record is None:
            self._report(f"I8: {key.user} has no record and {held} lives")
        elif record.state is GrantState.REAUTH_REQUIRED and grant in self._story.watch.invalidated:
            self._story.reached["invalidated"] += 1
        elif record.state is not GrantState.ACTIVE:
            self._report(f"I8: {key.user} is {record.state} and {held} lives")
        elif record.pair.fingerprint not in held:
            self._report(f"I8: {key.user} has {record.pair.fingerprint}, not {held}")

    def _is_ordered_dead(self, key: GrantKey, grant: GrantId) -> bool:
        """Whether some disk holds an order against the end user's newest consent."""
        newest = self._idp.families(key)[-1]
        ordered = {
            entry.consent.id
            for peer in self._fleet.peers
            for entry, is_synced in peer.disk.entries
            if isinstance(entry, RevocationOrdered) and entry.grant == grant and is_synced
        }
        for token in self._story.watch.tokens_of(ordered):
            origin = self._idp.origin(token)
            if origin is not None and origin[0] is newest:
                return True
        return False

    def _newest(self, live: list[str]) -> list[str]:
        """Return those of the latest generation: a grace leaves older ones, which are let go."""
        origins = {token: self._idp.origin(token) for token in live}
        generations = {token: origin[1] for token, origin in origins.items() if origin is not None}
        latest = max(generations.values(), default=0)
        return [token for token, generation in generations.items() if generation == latest]

    def _is_consented_twice_at_once(self, key: GrantKey) -> bool:
        """Whether two consents are so close that either may stand: their epochs are in seconds."""
        last = self._idp.families(key)[-2:]
        return len(last) > 1 and last[1].since_s - last[0].since_s < AT_ONCE_S

    def _is_lost(self, token: str) -> bool:
        """Whether nobody can have this token: its answer broke, or its reader died before it."""
        if self._is_on_a_disk(token):
            return False
        if token in self._story.troubles.foreign:
            return not self._story.troubles.foreign[token]
        bringer = next(entry for entry in self._idp.ledger if entry.brought == token)
        if bringer.is_told:
            self._report(f"I5: {bringer.peer} was told {token}, and it is on no disk")
        return not bringer.is_told

    def _is_on_a_disk(self, token: str) -> bool:
        return any(
            isinstance(entry, PairReceived) and entry.pair.fingerprint == token
            for peer in self._fleet.peers
            for entry, _ in peer.disk.entries
        )

    # --- presentations ----------------------------------------------------------------------------

    def _judge_presentations(self) -> None:
        """I1, I2 and I10: each presentation beyond the first of a token has a cause."""
        former: dict[str, list[tuple[Sending, Presentation | None]]] = {}
        came = {entry.number: entry for entry in self._idp.refreshes()}
        for sending in self._witness.sendings:
            noted = came.get(sending.number)
            before = former.setdefault(sending.token, [])
            for earlier, entry in before:
                cause = self._cause(earlier, entry, sending)
                self._story.reached[f"again: {cause}"] += 1
                if cause is None or self._is_faultless:
                    self._report(f"I10: {sending.token} again by {sending.peer}, cause: {cause}")
            before.append((sending, noted))
        for token, sendings in former.items():
            won = [entry for _, entry in sendings if entry is not None and entry.is_success]
            if len(won) > 1 and self._idp.temper is not Temper.GRACE:
                self._report(f"I1: {token} was used twice")
            if self._is_faultless and len(won) != len(sendings):
                self._report(f"I2: {token} was presented in vain")

    def _cause(self, earlier: Sending, entry: Presentation | None, later: Sending) -> str | None:
        """Return why a token was presented again after an earlier presentation, if there is why."""
        assert earlier.lease is not None
        assert later.lease is not None
        if entry is not None and entry.is_success and not entry.is_told:
            return "answer lost"
        if entry is not None and not entry.is_success and entry.at_s <= later.at_s:
            return "not consumed"
        if earlier.claim_id == later.claim_id:
            return None if entry is not None and entry.fault is Fault.NONE else "owner's repeat"
        leased_s = self._leased_s(later)
        if self._could_not_work(later.peer, leased_s, later.at_s, kinds=("stopped",)):
            return "stopped before its first byte"
        if any(self._leased_s(earlier) <= at_s <= later.at_s for at_s in self._rollbacks):
            return self._if(earlier, later, "store rolled back")
        if self._is_probed(earlier, later):
            return self._if(earlier, later, "probe past its hold")
        return None

    def _leased_s(self, sending: Sending) -> float:
        assert sending.lease is not None
        return sending.lease.at_s - self._fleet.clock.wall_s + self._fleet.clock.running_s

    def _is_probed(self, earlier: Sending, later: Sending) -> bool:
        """Whether a claim was taken over: at once, or by one that came to nothing.

        Its owner may have stood still before its first byte, and present the token only then.
        """
        assert earlier.lease is not None
        assert later.lease is not None
        own = replace(earlier.lease, former=None)
        offset_s = self._fleet.clock.wall_s - self._fleet.clock.running_s
        return any(
            lease.is_probe
            and lease.token == later.token
            and lease.at_s <= later.lease.at_s
            and (earlier.at_s + offset_s <= lease.at_s or lease.former == own)
            for lease in self._story.watch.leases.values()
        )

    def _if(self, earlier: Sending, later: Sending, cause: str) -> str | None:
        """Return the cause if the earlier presenter could not work in between."""
        could_not = self._could_not_work(
            earlier.peer, earlier.at_s - 1.0, later.at_s, kinds=STANDSTILLS
        )
        return cause if could_not else None

    def _could_not_work(
        self, who: str, from_s: float, to_s: float, *, kinds: tuple[str, ...]
    ) -> bool:
        return any(
            span.who in (who, EVERYBODY)
            and span.kind in kinds
            and span.from_s <= to_s
            and span.to_s >= from_s
            for span in self._witness.impairments
        )
