"""No grant, no bank, and no kind of call takes every slot of a listener."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Final, cast

import pytest

from sidecar.domain.bulkhead import SlotLimit
from sidecar.domain.record import GrantKey
from sidecar.domain.tokens import (
    HealGranted,
    HealVerdict,
    ProblemReason,
    TokenFound,
    TokenLookup,
    TokenRefused,
)
from sidecar.domain.wire import Answered
from sidecar.http.proxy import ProxyOptions
from sidecar.service.patience import Patience
from tests.support.control_rig import GRANT as GRANT_PATH
from tests.support.control_rig import running_control
from tests.support.fake_clock import FakeClock
from tests.support.proxy_rig import GRANT, Rig, ScriptedSource, running_proxy, token
from tests.support.raw_http import Asked, RawMessage, answer, connected, request
from tests.support.scripted_idp import pair_answer
from tests.support.wait import until

MOST: Final = 8
HALF: Final = 4
QUARTER: Final = 2
REJECTED: Final = answer(b'{"code": 602}', status=b"401 Unauthorized")
NOT_YET: Final = TokenRefused(
    grant=GRANT, reason=ProblemReason.TOKEN_UNAVAILABLE, is_cut_short=True
)


@dataclass(slots=True, kw_only=True)
class Gated(ScriptedSource):
    """Has no bearer in memory, except for `rich`, until the test opens the gate.

    Attributes:
        known: What a look-up is answered with at once.
        is_stubborn: Wait for the gate, whatever patience is left.
    """

    gate: asyncio.Event = field(default_factory=asyncio.Event)
    rich: str = ""
    known: TokenLookup | None = None
    is_stubborn: bool = False

    def peek(self, key: GrantKey) -> TokenFound | None:
        return token() if key.user == self.rich else None

    async def token_for(self, key: GrantKey, *, patience: Patience) -> TokenLookup:
        self.keys.append(key)
        if self.known is not None:
            return self.known
        return self.found if await self._opens(patience) else NOT_YET

    async def heal(
        self, key: GrantKey, rejected: TokenFound, *, product: str, patience: Patience
    ) -> HealVerdict:
        del key, rejected, product
        self.healed.append((0, ""))
        return NOT_YET if not await self._opens(patience) else self.verdicts[0]

    async def _opens(self, patience: Patience) -> bool:
        self.left_s.append(patience.left_s)
        try:
            async with asyncio.timeout(None if self.is_stubborn else patience.left_s):
                await self.gate.wait()
        except TimeoutError:
            return False
        return True


def few_slots(options: ProxyOptions) -> ProxyOptions:
    return replace(options, max_in_flight=MOST)


async def _ask(rig: Rig, user: str = "u-1", bank: str = "mikomo") -> RawMessage:
    line = b"GET /balances/v2/%b HTTP/1.1" % bank.encode()
    async with connected(rig.port) as client:
        return await client.ask(request(line=line, user=user.encode()))


@dataclass(frozen=True, slots=True)
class Crowd:
    """Calls under way; all are answered before the test ends."""

    rig: Rig
    group: asyncio.TaskGroup
    calls: list[asyncio.Task[RawMessage]]

    async def join(self, user: str = "u-1", bank: str = "mikomo") -> None:
        """Begin one more call and return once it is under way."""
        before = self.rig.proxy.in_flight
        self.calls.append(self.group.create_task(_ask(self.rig, user, bank)))
        await until(
            lambda: self.rig.proxy.in_flight > before, within_s=30, what="one more call in flight"
        )

    async def statuses(self) -> list[int]:
        """Return what the calls were answered with."""
        return [answered.status for answered in await asyncio.gather(*self.calls)]


@asynccontextmanager
async def crowd(rig: Rig) -> AsyncGenerator[Crowd]:
    async with asyncio.TaskGroup() as group:
        yield Crowd(rig, group, [])


def _limits(rig: Rig) -> list[SlotLimit | None]:
    return [event.limit for event in rig.completed if event.limit is not None]


async def test_calls_that_wait_for_one_grant_take_a_quarter_of_the_slots() -> None:
    """The next one is refused, and says by which limit; a bearer in memory is still served."""
    source = Gated(rich="rich")
    async with (
        running_proxy(answer(), source=source, options=few_slots) as rig,
        crowd(rig) as waiting,
    ):
        for _ in range(QUARTER):
            await waiting.join()
        refused = await _ask(rig)
        of_another = asyncio.ensure_future(_ask(rig, "u-2"))
        served = [(await _ask(rig, "rich")).status for _ in range(20)]
        source.gate.set()
        assert (await of_another).status == 200
        assert await waiting.statuses() == [200] * QUARTER

    assert (refused.status, refused.value(b"sidecar-error")) == (503, b"overloaded")
    assert refused.value(b"retry-after") == b"1"
    assert served == [200] * 20
    assert _limits(rig) == [SlotLimit.GRANT]


async def test_calls_that_wait_for_tokens_take_half_of_the_slots() -> None:
    """However many grants they are of."""
    source = Gated(rich="rich")
    async with (
        running_proxy(answer(), source=source, options=few_slots) as rig,
        crowd(rig) as waiting,
    ):
        for number in range(HALF):
            await waiting.join(f"u-{number}")
        refused = await _ask(rig, "u-9")
        served = (await _ask(rig, "rich")).status
        source.gate.set()
        assert await waiting.statuses() == [200] * HALF
        again = (await _ask(rig, "u-9")).status

    assert (refused.status, refused.value(b"sidecar-error")) == (503, b"overloaded")
    assert (served, again) == (200, 200)
    assert _limits(rig) == [SlotLimit.WAITING]


@pytest.mark.parametrize("most", [1, 2, 3])
async def test_the_fewest_slots_still_serve(most: int) -> None:
    """Each share is one slot at least, so that a single call always goes through."""
    source = Gated()
    source.gate.set()
    async with running_proxy(
        answer(), source=source, options=lambda it: replace(it, max_in_flight=most)
    ) as rig:
        statuses = [(await _ask(rig, user, bank)).status for user in "ab" for bank in "xy"]

    assert statuses == [200] * 4


async def test_a_call_beyond_its_share_is_told_what_is_known() -> None:
    """It may not wait, but the truth about its grant costs no wait: not just "overloaded"."""
    source = Gated(rich="rich")
    async with (
        running_proxy(answer(), source=source, options=few_slots) as rig,
        crowd(rig) as waiting,
    ):
        for _ in range(QUARTER):
            await waiting.join()
        source.known = TokenRefused(
            grant=GRANT, reason=ProblemReason.TOKEN_UNAVAILABLE, retry_after_s=590.0
        )
        told = await asyncio.gather(*(_ask(rig) for _ in range(MOST)))
        source.gate.set()
        await waiting.statuses()

    assert {each.value(b"sidecar-error") for each in told} == {b"token_unavailable"}
    assert {each.value(b"retry-after") for each in told} == {b"120"}
    assert _limits(rig) == []


async def test_calls_beyond_their_share_take_no_slot_while_they_look() -> None:
    """A hundred callers of a grant that nobody can refresh keep no other call out."""
    source = Gated(rich="rich", is_stubborn=True)
    async with (
        running_proxy(answer(), source=source, options=few_slots) as rig,
        crowd(rig) as waiting,
    ):
        # Another bank is served too, so the share of this one counts.
        assert (await _ask(rig, "rich", "other-bank")).status == 200
        for _ in range(QUARTER + MOST):
            await waiting.join()
        refused_at_once = await _ask(rig)
        looked = len(source.keys)
        served = [(await _ask(rig, "rich")).status for _ in range(20)]
        source.gate.set()
        await waiting.statuses()

    assert served == [200] * 20
    assert refused_at_once.value(b"sidecar-error") == b"overloaded"
    assert looked == QUARTER + MOST, "as many look as there are slots, and no more"


async def test_a_call_beyond_its_share_that_finds_a_bearer_is_served() -> None:
    """What only had to be confirmed is no wait."""
    source = Gated(is_stubborn=True)
    async with (
        running_proxy(answer(), source=source, options=few_slots) as rig,
        crowd(rig) as waiting,
    ):
        for _ in range(QUARTER):
            await waiting.join()
        await waiting.join()
        source.gate.set()

        assert await waiting.statuses() == [200] * (QUARTER + 1)


async def test_a_heal_beyond_the_share_is_overload_and_no_rejection() -> None:
    """The 401 of a bearer that may be healed later must not send the end user to consent."""
    source = Gated(rich="rich")
    async with (
        running_proxy(REJECTED, answer(), source=source, options=few_slots) as rig,
        crowd(rig) as waiting,
    ):
        for number in range(HALF):
            await waiting.join(f"u-{number}")
        got = await _ask(rig, "rich")
        source.gate.set()
        await waiting.statuses()

    assert (got.status, got.value(b"sidecar-error")) == (503, b"overloaded")
    assert len(source.healed) == 1
    assert _limits(rig) == [SlotLimit.WAITING]


async def test_a_second_rejection_waits_for_nothing() -> None:
    """It is told, so that the next call is better off; its own answer is the 401."""
    source = ScriptedSource(verdicts=[HealGranted(found=token(2))])
    async with running_proxy(REJECTED, source=source) as rig:
        got = await _ask(rig)

    assert got.status == 401
    assert source.left_s == [10.0, 0.0]


async def test_a_look_up_and_a_heal_of_one_call_draw_on_one_patience() -> None:
    """What the first one took is gone for the second; the next call begins with a whole one."""

    @dataclass(slots=True, kw_only=True)
    class Slow(ScriptedSource):
        clock: FakeClock = field(default_factory=FakeClock)

        def patience(self) -> Patience:
            return Patience(wait_s=10.0, clock=self.clock)

        async def token_for(self, key: GrantKey, *, patience: Patience) -> TokenLookup:
            del key
            self.left_s.append(patience.left_s)
            with patience.running():
                self.clock.advance(3.0)
            return token()

    source = Slow(peeked=None, verdicts=[HealGranted(found=token(2))])
    async with running_proxy(REJECTED, answer(), source=source) as rig:
        statuses = [(await _ask(rig)).status for _ in range(2)]

    assert statuses == [200, 200]
    assert source.left_s == [10.0, 7.0, 10.0]


@asynccontextmanager
async def hanging(release: asyncio.Event) -> AsyncGenerator[Rig]:
    async def hang(asked: Asked) -> None:
        if b"/sick" in asked.head.start_line:
            await release.wait()
        asked.writer.write(answer(b"fine"))
        await asked.writer.drain()

    async with running_proxy(hang, options=lambda it: replace(it, max_in_flight=10)) as rig:
        yield rig


async def test_a_bank_that_hangs_leaves_a_tenth_to_the_others() -> None:
    """As soon as another bank is served, one bank cannot take every slot."""
    release = asyncio.Event()
    async with hanging(release) as rig, crowd(rig) as calls:
        assert (await _ask(rig, bank="well")).status == 200
        for number in range(9):
            await calls.join(f"u-{number}", "sick")
        refused = await _ask(rig, "u-9", "sick")
        others = [(await _ask(rig, bank="well")).status for _ in range(20)]
        release.set()
        assert await calls.statuses() == [200] * 9

    assert (refused.status, refused.value(b"sidecar-error")) == (503, b"overloaded")
    assert others == [200] * 20
    assert _limits(rig) == [SlotLimit.BANK]


async def test_the_only_bank_may_use_every_slot() -> None:
    """Nothing is kept for nobody; the eleventh call meets the end of the slots themselves."""
    release = asyncio.Event()
    async with hanging(release) as rig, crowd(rig) as calls:
        for number in range(10):
            await calls.join(f"u-{number}", "sick")
        refused = await _ask(rig, "u-10", "sick")
        release.set()
        assert await calls.statuses() == [200] * 10

    assert refused.value(b"sidecar-error") == b"overloaded"
    assert _limits(rig) == [SlotLimit.ALL]


async def test_a_name_that_a_client_makes_up_keeps_no_slots_free() -> None:
    """A bank counts as served only once a call to it had a token."""
    release = asyncio.Event()
    async with hanging(release) as rig, crowd(rig) as calls:
        unknown = TokenRefused(grant=GRANT, reason=ProblemReason.GRANT_UNKNOWN)
        rig.source.peeked, rig.source.found = None, unknown
        assert (await _ask(rig, bank="made-up")).status == 401
        rig.source.peeked = token()
        for number in range(10):
            await calls.join(f"u-{number}", "sick")
        release.set()

        assert await calls.statuses() == [200] * 10


async def test_nothing_is_kept_of_calls_that_are_over() -> None:
    """Counts of grants and banks end with their calls, refused ones and lost clients included."""
    source = Gated(rich="rich")
    async with running_proxy(answer(), source=source, options=few_slots) as rig:
        async with crowd(rig) as waiting:
            for _ in range(QUARTER + 1):
                await waiting.join()
            async with connected(rig.port) as gone:
                await gone.send(request(user=b"u-3"))
                await until(lambda: len(source.keys) == 4, within_s=30, what="the look-up")
                gone.abort()
            source.gate.set()
            await waiting.statuses()
        await until(lambda: rig.proxy.in_flight == 0, within_s=30, what="every call to end")
        kept = cast("dict[str, object]", vars(vars(rig.proxy)["_bulkhead"]))

    counts = ("_waiting", "_waiting_of", "_calls", "_glancing")
    assert not any(kept[name] for name in counts)


async def test_ordered_refreshes_leave_slots_to_the_other_calls_of_the_grants_api() -> None:
    """A refresh waits for a token; the grant can be shown all the while."""
    released = asyncio.Event()

    async def slowly(_: object) -> Answered:
        await released.wait()
        return pair_answer("refresh-1")

    async with running_control(max_in_flight=MOST) as control, asyncio.TaskGroup() as group:
        await control.onboard()
        control.rig.idp.then(slowly)
        orders = [
            group.create_task(control.ask("POST", f"{GRANT_PATH}/refresh")) for _ in range(QUARTER)
        ]
        await until(
            lambda: control.api.in_flight == QUARTER, within_s=30, what="the orders to wait"
        )
        refused = await control.ask("POST", f"{GRANT_PATH}/refresh")
        shown = await control.ask("GET", GRANT_PATH)
        released.set()
        statuses = [(await order).status for order in orders]

    assert (refused.status, refused.document["reason"]) == (503, "overloaded")
    assert shown.status == 200
    assert statuses == [200] * QUARTER
