"""Random commands over few ids, mostly the next step that the record waits for.

Takes a `random.Random`, so that Hypothesis (``st.randoms()``) can shrink what it drew and a soak
can run on a plain seed, many thousand steps a second.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from random import Random
from typing import Final

from sidecar.domain.commands import (
    Acquire,
    AdoptOrphan,
    BeginRevocation,
    Commit,
    CoolDown,
    Deny,
    EndCoolDown,
    FinishRevocation,
    Incarnation,
    Invalidate,
    KeepHold,
    MarkSending,
    Moment,
    Purge,
    Release,
    Rewrap,
    Settle,
)
from sidecar.domain.record import (
    BootId,
    ClaimId,
    Consent,
    ConsentId,
    GrantId,
    GrantRecord,
    GrantState,
    LastError,
    Position,
    ReplicaId,
    RunId,
    StoredPair,
)
from sidecar.domain.transitions import AnyCommand

START_MS: Final = 1_700_000_000_000
GRANTS: Final = (GrantId("a1" * 16), GrantId("a2" * 16))
RUNS: Final = (RunId("b1" * 20), RunId("b2" * 20), RunId("b3" * 20))
CONSENTS: Final = (
    Consent(id=ConsentId("c1" * 16), consented_at_ms=START_MS - 9_000),
    Consent(id=ConsentId("c2" * 16), consented_at_ms=START_MS - 8_000),
    Consent(id=ConsentId("c3" * 16), consented_at_ms=START_MS - 8_000),
)
CLAIMS: Final = (ClaimId("d1" * 16), ClaimId("d2" * 16), ClaimId("d3" * 16))
REPLICAS: Final = (ReplicaId("e1" * 16), ReplicaId("e2" * 16))
BOOTS: Final = (BootId("f1" * 16), BootId("f2" * 16))
PRODUCTS: Final = ("balances", "transactions")
LEASE_MS: Final = 100
HOLD_MS: Final = 1_000
HEAL_MS: Final = 2_000
QUARANTINE_MS: Final = 500
FAR_MS: Final = 31_536_000_000
"""A year: far beyond every bound."""
ORDER_EVERY_MS: Final = 30_000
TIME_STEPS_MS: Final = (0, 1, 10, LEASE_MS, LEASE_MS + 1, QUARANTINE_MS, HOLD_MS, HEAL_MS, 20_000)


def random_command(rng: Random, record: GrantRecord | None, moment: Moment) -> AnyCommand:
    """Return the next step of the record two times of three, else any command at all."""
    drawer = _Drawer(rng, record, moment)
    if rng.randrange(3) > 0:
        return rng.choice(drawer.next_steps())()
    return rng.choice(drawer.all_steps())()


class _Drawer:
    """Draws the parts of one command, mostly those that fit the record."""

    def __init__(self, rng: Random, record: GrantRecord | None, moment: Moment) -> None:
        self.rng = rng
        self.record = record
        self.moment = moment

    def next_steps(self) -> tuple[Callable[[], AnyCommand], ...]:
        match None if self.record is None else self.record.state:
            case None:
                return (self.commit, self.commit, self.commit, self.begin_revocation)
            case GrantState.ACTIVE:
                return (self.acquire, self.acquire, self.acquire, self.cool_down)
            case GrantState.LEASED:
                return (self.mark, self.mark, self.mark, self.release, self.acquire)
            case GrantState.SENDING if self.is_quarantined():
                return (self.mark, self.mark, self.mark, self.adopt, self.acquire)
            case GrantState.SENDING if self.is_of_another_run():
                return (self.acquire, self.acquire, self.acquire, self.mark, self.adopt)
            case GrantState.SENDING:
                claims = (self.commit, self.deny, self.deny, self.keep, self.acquire)
                return (*claims, self.mark, self.release, self.adopt, self.begin_revocation)
            case GrantState.IN_DOUBT:
                return (self.settle, self.settle, self.acquire, self.commit)
            case GrantState.REAUTH_REQUIRED:
                return (self.commit, self.commit, self.begin_revocation)
            case GrantState.REVOKING:
                return (self.finish_revocation, self.commit, self.begin_revocation, self.deny)
            case GrantState.REVOKED:
                return (self.commit, self.purge, self.finish_revocation)

    def all_steps(self) -> tuple[Callable[[], AnyCommand], ...]:
        claims = (self.acquire, self.mark, self.keep, self.release, self.adopt, self.deny)
        ends = (self.begin_revocation, self.finish_revocation, self.purge, self.invalidate)
        rest = (self.commit, self.settle, self.rewrap, self.cool_down, self.end_cool_down)
        return claims + ends + rest

    def is_of_another_run(self) -> bool:
        return self.record is not None and self.record.run_id != self.moment.run_id

    def is_quarantined(self) -> bool:
        record, moment = self.record, self.moment
        return record is not None and record.quarantine_until_ms > moment.now_ms

    def is_likely(self) -> bool:
        return self.rng.randrange(8) > 0

    def position(self) -> Position:
        if self.record is not None and self.is_likely():
            return self.record.position
        consent = self.rng.choice(CONSENTS)
        return Position(consent_id=consent.id, generation=self.rng.randint(-1, 4))

    def consent(self) -> Consent:
        if self.record is not None and self.is_likely():
            return self.record.pair.consent
        return self.rng.choice(CONSENTS)

    def claim(self) -> ClaimId:
        if self.record is not None and self.record.claim_id is not None and self.is_likely():
            return self.record.claim_id
        return self.rng.choice(CLAIMS)

    def error(self) -> LastError:
        reason = self.rng.choice(("refresh_token_rejected", "idp_unavailable"))
        return LastError(operation="refresh", reason=reason, at_ms=0)

    def incarnation(self) -> Incarnation | None:
        run_id = self.moment.run_id if self.is_likely() else self.rng.choice((None, *RUNS))
        if run_id is None:
            return None
        met_ago_ms = self.rng.choice((0, QUARANTINE_MS, QUARANTINE_MS, 20_000, -FAR_MS))
        if self.is_of_another_run() and self.is_likely():
            met_ago_ms = 0
        return Incarnation(run_id=run_id, met_at_ms=self.moment.now_ms - met_ago_ms)

    def pair(self) -> StoredPair:
        rng = self.rng
        consent, generation = self.consent(), rng.randint(0, 2)
        if self.record is not None and consent == self.record.pair.consent:
            generation = max(0, self.record.pair.generation + rng.choice((1, 1, 1, 1, 0, 2, -1)))
        name = f"{consent.id[:2]}-{generation}{rng.choice(('', '', chr(39)))}"
        return StoredPair(
            consent=consent,
            generation=generation,
            fingerprint=f"fp-{name}",
            sealed_pair=rng.choice((b"pair", b"\x00\xff\r\n", b"$5\r\n")) + name.encode(),
            sealed_key=rng.choice((b"key", b"\xf0\x00", b"")),
            expires_at_ms=rng.choice((0, START_MS + 900_000)),
            issued_at_s=generation * 10 + rng.randrange(3),
        )

    def acquire(self) -> AnyCommand:
        permit = self.rng.randrange(8)
        return Acquire(
            claim_id=self.rng.choice(CLAIMS),
            replica_id=self.rng.choice(REPLICAS),
            boot_id=self.rng.choice(BOOTS),
            known=self.position(),
            incarnation=self.incarnation(),
            lease_ms=LEASE_MS,
            quarantine_ms=self.rng.choice((0, QUARANTINE_MS, QUARANTINE_MS)),
            may_probe=permit > 1,
            may_go_on=permit % 2 == 1,
            override_every_ms=self.rng.choice((0, ORDER_EVERY_MS)),
        )

    def mark(self) -> AnyCommand:
        return MarkSending(claim_id=self.claim(), position=self.position(), hold_ms=HOLD_MS)

    def keep(self) -> AnyCommand:
        return KeepHold(claim_id=self.claim(), hold_ms=HOLD_MS)

    def release(self) -> AnyCommand:
        is_unspent, is_orphan = self.rng.choice(tuple(product((False, True), repeat=2)))
        return Release(
            claim_id=self.claim(),
            is_unspent=is_unspent,
            backoff_ms=self.rng.choice((0, 0, LEASE_MS, FAR_MS, FAR_MS)),
            error=self.rng.choice((None, self.error())),
            is_orphan=is_orphan,
        )

    def adopt(self) -> AnyCommand:
        replica_id = self.rng.choice(REPLICAS)
        if self.record is not None and self.record.replica_id is not None and self.is_likely():
            replica_id = self.record.replica_id
        return AdoptOrphan(
            orphan_claim_id=self.claim(),
            replica_id=replica_id,
            claim_id=self.rng.choice(CLAIMS),
            boot_id=self.rng.choice(BOOTS),
            lease_ms=LEASE_MS,
        )

    def commit(self) -> AnyCommand:
        claim_id = self.rng.choice((None, self.claim(), self.claim()))
        return Commit(pair=self.pair(), claim_id=claim_id, is_live=self.rng.random() < 0.7)

    def deny(self) -> AnyCommand:
        return Deny(
            claim_id=self.claim(),
            position=self.position(),
            is_sole=self.rng.random() < 0.7,
            heal_ms=HEAL_MS,
            error=self.error(),
        )

    def settle(self) -> AnyCommand:
        return Settle(position=self.position())

    def begin_revocation(self) -> AnyCommand:
        return BeginRevocation(consent=self.consent())

    def finish_revocation(self) -> AnyCommand:
        return FinishRevocation(position=self.position())

    def purge(self) -> AnyCommand:
        return Purge(min_age_ms=self.rng.choice((0, HOLD_MS)))

    def invalidate(self) -> AnyCommand:
        return Invalidate(error=self.error())

    def rewrap(self) -> AnyCommand:
        fingerprint = "fp-unknown"
        if self.record is not None and self.is_likely():
            fingerprint = self.record.pair.fingerprint
        return Rewrap(
            position=self.position(),
            fingerprint=fingerprint,
            sealed_pair=self.rng.choice((b"another pair", b"")),
            sealed_key=self.rng.choice((b"another key", b"")),
        )

    def cool_down(self) -> AnyCommand:
        return CoolDown(
            consent_id=self.consent().id,
            product=self.rng.choice(PRODUCTS),
            base_ms=self.rng.choice((1, 30)),
            limit_ms=self.rng.choice((30, 1_000)),
        )

    def end_cool_down(self) -> AnyCommand:
        product = self.rng.choice(PRODUCTS)
        return EndCoolDown(consent_id=self.consent().id, product=product)
