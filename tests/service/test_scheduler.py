"""Grants are refreshed although nobody asks for it: in time, once, and no others."""

from __future__ import annotations

import asyncio
from collections import Counter
from itertools import pairwise

import pytest

from sidecar.domain.events import DueOutcome, GrantLookedAt, RecordUnreadable
from sidecar.domain.policy import RefreshAhead
from sidecar.domain.record import GrantState
from sidecar.domain.tokens import TokenFound, TokenSource
from tests.support.rotating_idp import Fault
from tests.support.scheduling import (
    DUE_S,
    LIFE_S,
    generations,
    link,
    looks,
    scheduling_fleet,
    users,
)
from tests.support.scripted_idp import refusal
from tests.support.sidecar_parts import KEY, sealer
from tests.support.virtual_time import in_virtual_time

BANKS = ("mikomo", "bank-2", "bank-3")


@in_virtual_time
async def test_due_grants_are_refreshed_before_they_expire_and_each_by_one_sidecar() -> None:
    """Nobody calls, three sidecars look: each grant has its next pair in time, from one claim."""
    fleet = scheduling_fleet(RefreshAhead.ALL)
    peers = [await fleet.peer(name) for name in "abc"]
    keys = [key for bank in BANKS for key in users(bank, 10)]
    await link(peers[0], keys)

    await asyncio.sleep(LIFE_S - 30)

    presented = Counter(entry.token for entry in fleet.idp.refreshes())
    assert generations(fleet, peers[0], keys) == [1] * len(keys)
    assert set(presented.values()) == {1}
    assert len({entry.peer for entry in fleet.idp.refreshes()}) > 1
    await fleet.end()


@in_virtual_time
async def test_off_refreshes_nothing_ahead_and_keeps_no_schedule() -> None:
    """With `off` a grant waits for its user, whatever happens to its token."""
    fleet = scheduling_fleet(RefreshAhead.OFF)
    peer = await fleet.peer()
    await peer.obtain()
    await peer.ask()

    await asyncio.sleep(2 * LIFE_S)

    assert fleet.idp.refreshes() == []
    assert fleet.store.due == {}
    assert fleet.store.used == {}
    await fleet.end()


@in_virtual_time
async def test_active_refreshes_what_any_sidecar_served_and_leaves_the_rest_alone() -> None:
    """A use at one sidecar counts in the whole fleet; a grant that nobody used stays as it is."""
    fleet = scheduling_fleet(RefreshAhead.ACTIVE)
    first, second = await fleet.peer("a"), await fleet.peer("b")
    used, unused = users("mikomo", 2)
    await link(first, [used, unused])
    await second.ask(used)
    await asyncio.sleep(30)
    await second.stop()

    await asyncio.sleep(LIFE_S)

    assert generations(fleet, first, [used, unused]) == [1, 0]
    assert looks(first, unused) == [DueOutcome.IDLE]
    assert first.parts.grant(unused) not in fleet.store.due
    await fleet.end()


@in_virtual_time
async def test_a_grant_out_of_use_is_let_go_after_the_window_and_taken_up_with_its_next_use() -> (
    None
):
    """Unused for the window, a grant is refreshed no more; one use brings it back."""
    fleet = scheduling_fleet(RefreshAhead.ACTIVE, active_window_s=1800)
    peer = await fleet.peer()
    await peer.obtain()
    await peer.ask()
    await asyncio.sleep(1800 * 1.1 + LIFE_S)
    let_go = fleet.record(peer).pair.generation
    await asyncio.sleep(2 * LIFE_S)
    still = fleet.record(peer).pair.generation

    await peer.ask()
    await asyncio.sleep(2 * LIFE_S)

    assert let_go == still
    assert 2 <= let_go <= 3
    assert fleet.record(peer).pair.generation >= still + 3
    await fleet.end()


@pytest.mark.parametrize("ahead", [RefreshAhead.ACTIVE, RefreshAhead.ALL])
def test_keep_alive_refreshes_what_nobody_uses(ahead: RefreshAhead) -> None:
    """However long an id_token lives, no refresh token lies unused for longer than that."""

    @in_virtual_time
    async def story() -> None:
        fleet = scheduling_fleet(ahead, keepalive_s=1200)
        fleet.idp.life_s = 86_000
        peer = await fleet.peer()
        await peer.obtain()

        await asyncio.sleep(4 * 1200)

        times = [entry.at_s for entry in fleet.idp.refreshes()]
        gaps = [late - early for early, late in pairwise(times)]
        assert len(times) == 4
        assert all(1050 < gap <= 1230 for gap in gaps)
        await fleet.end()

    story()


@in_virtual_time
async def test_a_herd_of_one_expiry_is_refreshed_a_few_at_a_time() -> None:
    """Two hundred grants of one bank expire at once: spread by their jitter, eight at a time."""
    fleet = scheduling_fleet(RefreshAhead.ALL)
    fleet.idp.answer_after_s = 0.5
    peer = await fleet.peer()
    keys = users("mikomo", 200)
    await link(peer, keys)

    await asyncio.sleep(LIFE_S - 30)

    times = sorted(entry.at_s for entry in fleet.idp.refreshes())
    assert generations(fleet, peer, keys) == [1] * 200
    assert times[-1] - times[0] > 10
    assert all(late - early > 0.4 for early, late in zip(times, times[8:], strict=False))
    await fleet.end()


@in_virtual_time
async def test_a_start_with_much_overdue_is_no_herd() -> None:
    """A fleet that was down for hours catches up within its berths, and asks for nothing twice."""
    fleet = scheduling_fleet(RefreshAhead.ALL)
    peer = await fleet.peer()
    keys = [key for bank in BANKS for key in users(bank, 100)]
    await link(peer, keys)
    await peer.stop()
    await asyncio.sleep(4 * LIFE_S)
    fleet.idp.answer_after_s = 0.5

    for each in (peer, *[await fleet.peer(name) for name in "bc"]):
        if each is peer:
            await each.start()
    await asyncio.sleep(120)

    times = sorted(entry.at_s for entry in fleet.idp.refreshes())
    assert generations(fleet, peer, keys) == [1] * 300
    assert len(times) == 300
    assert all(late - early > 0.4 for early, late in zip(times, times[48:], strict=False))
    await fleet.end()


@in_virtual_time
async def test_a_sick_bank_holds_up_no_other() -> None:
    """Eighty overdue grants of a bank that hangs: those of the others are refreshed in time."""
    fleet = scheduling_fleet(RefreshAhead.ALL)
    peer = await fleet.peer()
    sick, healthy = users("sick-bank", 80), users("mikomo", 30)
    await link(peer, [*sick, *healthy])
    fleet.idp.bank_after_s["sick-bank"] = 500.0

    await asyncio.sleep(LIFE_S - 30)

    assert generations(fleet, peer, healthy) == [1] * 30
    assert DueOutcome.CROWDED in {event.outcome for event in peer.of(GrantLookedAt)}
    fleet.idp.bank_after_s.clear()
    await asyncio.sleep(2 * LIFE_S)
    assert min(generations(fleet, peer, sick)) >= 1
    await fleet.end()


@in_virtual_time
async def test_an_end_that_was_asked_for_stops_the_schedule_at_once() -> None:
    """I17: after SIGTERM nothing is claimed that no request asks for; requests are served."""
    fleet = scheduling_fleet(RefreshAhead.ALL)
    peer = await fleet.peer()
    keys = users("mikomo", 20)
    await link(peer, keys)
    await asyncio.sleep(LIFE_S * 0.75)

    peer.parts.lane.serve_callers_only()
    await asyncio.sleep(LIFE_S)

    assert fleet.idp.refreshes() == []
    found = await peer.ask(keys[0])
    assert isinstance(found, TokenFound)
    assert found.source is TokenSource.REFRESH
    await fleet.end()


@in_virtual_time
async def test_a_wish_that_waits_for_a_berth_is_dropped_at_the_end() -> None:
    """I17: what the schedule asked for and has not begun does not begin after SIGTERM."""
    fleet = scheduling_fleet(RefreshAhead.ALL)
    peer = await fleet.peer()
    await link(peer, users("mikomo", 16))
    fleet.idp.bank_after_s["mikomo"] = 100.0
    await asyncio.sleep(DUE_S + 5)
    waiting, sent = peer.parts.berths.waiting, peer.parts.berths.running

    peer.parts.lane.serve_callers_only()
    await asyncio.sleep(300)

    assert waiting > 0
    assert len(fleet.idp.refreshes()) == sent
    await fleet.end()


@in_virtual_time
async def test_the_claim_of_a_dead_sidecar_is_taken_up_when_its_hold_ends() -> None:
    """Whoever meets the hold looks again at the instant that it names, and probes then."""
    fleet = scheduling_fleet(RefreshAhead.ALL)
    owner = await fleet.peer("a")
    await owner.obtain()
    owner.life.dies_at = "back from MarkSending"
    await asyncio.sleep(DUE_S)
    await owner.died()
    other = await fleet.peer("b")
    held_until_ms = fleet.record(other).hold_until_ms

    await asyncio.sleep(fleet.times.hold_s + 60)

    (probe,) = fleet.idp.refreshes()
    started_ms = fleet.store.now_ms - int(fleet.clock.elapsed_s() * 1000)
    waited_ms = started_ms + probe.at_s * 1000 - held_until_ms
    assert 0 <= waited_ms < 30_000
    assert looks(other, KEY) == [DueOutcome.EARLY, DueOutcome.REFRESHED]
    assert fleet.record(other).state is GrantState.ACTIVE
    await fleet.end()


@in_virtual_time
async def test_a_grant_that_cannot_be_claimed_is_not_tried_all_the_time() -> None:
    """While the token service cannot be reached, a grant costs a try in ten seconds at most."""
    fleet = scheduling_fleet(RefreshAhead.ALL)
    peer = await fleet.peer()
    await peer.obtain()
    await asyncio.sleep(LIFE_S / 2)
    fleet.idp.choose = lambda _: Fault.UNREACHABLE
    peer.life.trace.clear()

    await asyncio.sleep(LIFE_S)

    tries = peer.life.trace.count("connected")
    assert 8 <= tries <= 65
    assert set(looks(peer, KEY)) == {DueOutcome.POSTPONED}
    fleet.idp.choose = lambda _: Fault.NONE
    await asyncio.sleep(120)
    assert fleet.record(peer).pair.generation == 1
    await fleet.end()


@in_virtual_time
async def test_wrong_credentials_cost_one_canary_at_a_time_and_blame_no_grant() -> None:
    """With the breaker open the schedule sends what the canary lets through, and loses nothing."""
    fleet = scheduling_fleet(RefreshAhead.ALL)
    peer = await fleet.peer()
    keys = users("mikomo", 50)
    await link(peer, keys)
    await asyncio.sleep(LIFE_S / 2)
    fleet.idp.plan.extend(refusal(401, "invalid_client") for _ in range(1000))
    await asyncio.sleep(LIFE_S)
    refused = 1000 - len(fleet.idp.plan)

    fleet.idp.plan.clear()
    await asyncio.sleep(300)

    assert refused <= 8 + LIFE_S / fleet.times.canary_every_s
    assert generations(fleet, peer, keys) == [1] * 50
    await fleet.end()


@in_virtual_time
async def test_a_record_sealed_with_an_unknown_key_is_told_and_never_claimed() -> None:
    """A key that this sidecar lacks costs no refresh token: the grant is left to who has it."""
    fleet = scheduling_fleet(RefreshAhead.ALL)
    fleet.sealer = sealer((("k2", b"2" * 32),))
    peer = await fleet.peer()
    await peer.obtain()
    await peer.stop()
    fleet.sealer = sealer((("k1", b"k" * 32),))
    await peer.start()

    await asyncio.sleep(2 * LIFE_S)

    assert fleet.idp.refreshes() == []
    assert set(looks(peer, KEY)) == {DueOutcome.UNREADABLE}
    assert {event.key_id for event in peer.of(RecordUnreadable)} == {"k2"}
    assert fleet.record(peer).state is GrantState.ACTIVE
    fleet.sealer = sealer((("k1", b"k" * 32), ("k2", b"2" * 32)))
    await peer.stop()
    await peer.start()
    await asyncio.sleep(120)
    assert fleet.record(peer).pair.generation == 1
    await fleet.end()


@in_virtual_time
async def test_a_torn_answer_is_renewed_soon_and_not_in_a_loop() -> None:
    """A pair whose id_token came torn is refreshed again without a caller, at a bounded pace."""
    fleet = scheduling_fleet(RefreshAhead.ALL)
    peer = await fleet.peer()
    await peer.obtain()
    await asyncio.sleep(LIFE_S / 2)
    fleet.idp.choose = lambda _: Fault.CUT_AFTER_TOKEN

    await asyncio.sleep(LIFE_S)

    assert 5 <= len(fleet.idp.refreshes()) <= LIFE_S / fleet.times.ahead_least_s
    await fleet.end()


@in_virtual_time
async def test_a_revoked_grant_leaves_the_schedule() -> None:
    """Whoever looks at a dead grant strikes it, and nobody looks again."""
    fleet = scheduling_fleet(RefreshAhead.ALL)
    peer = await fleet.peer()
    await peer.obtain()
    await peer.revoke()

    await asyncio.sleep(2 * LIFE_S)

    assert fleet.store.due == {}
    assert looks(peer, KEY) == [DueOutcome.GONE]
    await fleet.end()
