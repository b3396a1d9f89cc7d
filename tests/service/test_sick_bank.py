"""A bank whose refreshes hang for minutes costs its own users something, and nobody else."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from sidecar.domain.record import GrantKey
from sidecar.service.berths import BerthLimits, Berths
from tests.support.sidecar_parts import KEY
from tests.support.virtual_fleet import Fleet, Peer, bearer_of, until_expiry
from tests.support.virtual_time import in_virtual_time

SICK_BANK = "sick-bank"
SICK_USERS = 300
HANGS_S = 900.0
HEALTHY_BANKS = ("bank-1", "bank-2", "bank-3")


@in_virtual_time
async def test_a_sick_bank_stops_no_other() -> None:
    """Eight claims of one bank hang; the others' go on, and a slow one leaves the count."""
    fleet = Fleet()
    peer = await fleet.peer()
    sick = _users(SICK_BANK, 20)
    for key in [*sick, KEY]:
        await peer.obtain(key)
    await until_expiry(fleet)
    fleet.idp.bank_after_s[SICK_BANK] = 100.0
    asking = [asyncio.ensure_future(peer.ask(key)) for key in sick]
    await asyncio.sleep(1)
    hanging = peer.parts.berths.running

    assert bearer_of(await peer.ask())

    assert hanging == 8
    await asyncio.sleep(35)
    assert peer.parts.berths.running == 9, "slow after 30 s: one more of that bank was let in"
    await asyncio.gather(*asking)
    await fleet.end()


@in_virtual_time
async def test_while_one_bank_hangs_for_minutes_the_others_are_refreshed_as_ever() -> None:
    """Three hundred users of the sick bank, a quarter of an hour: no other refresh waits longer."""
    fleet = Fleet()
    peer = await fleet.peer()
    sick = _users(SICK_BANK, SICK_USERS)
    healthy = [key for bank in HEALTHY_BANKS for key in _users(bank, 8)]
    for key in [*sick, *healthy]:
        await peer.obtain(key)
    await until_expiry(fleet)
    alone_s = await _slowest_s(fleet, peer, healthy)
    fleet.idp.bank_after_s[SICK_BANK] = HANGS_S
    ends_s = fleet.clock.elapsed_s() + HANGS_S
    asking = [asyncio.ensure_future(peer.ask(key)) for key in sick]

    waited_s: list[float] = []
    while fleet.clock.elapsed_s() < ends_s:
        await until_expiry(fleet)
        waited_s.append(await _slowest_s(fleet, peer, healthy))

    hanging = peer.parts.berths.running
    assert max(waited_s) < 2 * alone_s
    assert 8 < hanging <= 128 - 16
    await asyncio.gather(*asking)
    fleet.idp.bank_after_s.clear()
    await fleet.end()


@in_virtual_time
async def test_each_slow_claim_takes_one_of_its_banks_places_but_the_last() -> None:
    """A bank that hangs for ever gains one claim a period, whatever its queue, and never more."""
    berths = _Berths(swift=8, swift_per_provider=4, all=100)
    for _ in range(50):
        berths.ask("sick")

    running: list[int] = []
    for _ in range(4):
        await asyncio.sleep(0.5)
        running.append(berths.running)
        await asyncio.sleep(0.5)

    assert running == [4, 5, 6, 7]
    await berths.end()


@in_virtual_time
async def test_a_bank_with_slow_claims_leaves_the_last_places_to_the_others() -> None:
    """Two sick banks fill all but the swift places, and who is well still gets one."""
    berths = _Berths(swift=2, swift_per_provider=1, all=6)
    for bank in ("a", "b"):
        for _ in range(5):
            berths.ask(bank)
    await asyncio.sleep(60)
    filled = berths.running

    berths.ask("well")
    await asyncio.sleep(0)

    assert filled == 4
    assert berths.entered[-1] == "well"
    await berths.end()


@in_virtual_time
async def test_berths_have_a_hard_limit_that_slow_claims_count_towards() -> None:
    """However many banks are sick, no more claims run than one killed process may cost."""
    berths = _Berths(swift=2, swift_per_provider=1, all=3)
    for bank in "abcdef":
        berths.ask(bank)

    await asyncio.sleep(0.5)
    swift = berths.running
    await asyncio.sleep(60)

    assert (swift, berths.running) == (2, 3)
    await berths.end()


@in_virtual_time
async def test_banks_are_let_in_by_turns_and_their_users_in_order() -> None:
    """The long queue of one bank does not stand before the short one of another."""
    berths = _Berths(swift=1, swift_per_provider=1, all=10)
    for name in ("a1", "a2", "a3", "a4", "b1", "b2"):
        berths.ask(name[0], name=name)

    for _ in range(6):
        await asyncio.sleep(0)
        await berths.leave_first()

    assert berths.entered == ["a1", "a2", "b1", "a3", "b2", "a4"]
    await berths.end()


@in_virtual_time
async def test_a_place_is_not_lost_with_the_claim_that_was_given_it() -> None:
    """Cancelled before, or in the very step in which it was let in: the next one gets the place."""
    berths = _Berths(swift=1, swift_per_provider=1, all=1)
    for name in ("a1", "a2", "a3", "a4"):
        berths.ask("a", name=name)
    await asyncio.sleep(0)
    berths.cancel("a2")
    await asyncio.sleep(0)
    berths.free_first()
    await asyncio.sleep(0)  # a1 leaves in this pass and lets a3 in, which has not gone on yet

    berths.cancel("a3")
    await asyncio.sleep(1)

    assert berths.entered == ["a1", "a4"]
    await berths.end()
    assert (berths.running, berths.waiting) == (0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asking:
    task: asyncio.Task[None]
    may_leave: asyncio.Event


class _Berths:
    """Berths that claims enter and stay in until they are told to leave; slow after a second."""

    def __init__(self, *, swift: int, swift_per_provider: int, all: int) -> None:  # noqa: A002
        limits = BerthLimits(swift=swift, swift_per_provider=swift_per_provider, all=all)
        self._berths = Berths(limits=limits, slow_after_s=1.0)
        self._asking: dict[str, _Asking] = {}
        self.entered: list[str] = []

    @property
    def running(self) -> int:
        return self._berths.running

    @property
    def waiting(self) -> int:
        return self._berths.waiting

    def ask(self, bank: str, *, name: str = "") -> None:
        """Start a claim of a bank; without a name it goes by its bank's."""
        may_leave = asyncio.Event()

        async def claim() -> None:
            async with self._berths.berth(bank):
                self.entered.append(name or bank)
                await may_leave.wait()

        # Ended by `end` at the latest.
        task = asyncio.get_running_loop().create_task(claim())
        key = name or f"{bank}-{len(self._asking)}"
        self._asking[key] = _Asking(task=task, may_leave=may_leave)

    def free_first(self) -> None:
        """Tell the claim that entered last that it may leave."""
        self._asking[self.entered[-1]].may_leave.set()

    async def leave_first(self) -> None:
        """Have the claim that entered last leave."""
        last = self._asking[self.entered[-1]]
        last.may_leave.set()
        await last.task

    def cancel(self, name: str) -> None:
        self._asking[name].task.cancel()

    async def end(self) -> None:
        for asking in self._asking.values():
            asking.task.cancel()
        await asyncio.gather(
            *(asking.task for asking in self._asking.values()), return_exceptions=True
        )


def _users(bank: str, count: int) -> list[GrantKey]:
    return [GrantKey(user=f"{bank}-{number}", provider=bank) for number in range(count)]


async def _slowest_s(fleet: Fleet, peer: Peer, keys: list[GrantKey]) -> float:
    """Have every key's expired bearer refreshed at once; return the longest wait."""
    asked_s = fleet.clock.elapsed_s()

    async def ask(key: GrantKey) -> float:
        assert bearer_of(await peer.ask(key))
        return fleet.clock.elapsed_s() - asked_s

    return max(await asyncio.gather(*(ask(key) for key in keys)))
