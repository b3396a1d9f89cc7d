"""What every store promises of envelopes that are taken out once."""

from __future__ import annotations

import asyncio

from sidecar.ports import Deposits
from tests.support.wait import eventually

NAME = "ticket:" + "0a" * 16
LONG_MS = 60_000


async def test_a_deposit_is_taken_once(store: Deposits) -> None:
    """Whoever comes first has it, byte for byte; looking takes nothing away."""
    envelope = bytes(range(256))
    await store.deposit(NAME, envelope, ttl_ms=LONG_MS)

    seen = [await store.peek(NAME) for _ in range(2)]
    taken = [await store.take(NAME) for _ in range(2)]

    assert seen == [envelope, envelope]
    assert taken == [envelope, None]
    assert await store.peek(NAME) is None


async def test_one_of_many_takers_has_it(store: Deposits) -> None:
    """However many sidecars take at once, one of them gets the envelope."""
    await store.deposit(NAME, b"envelope", ttl_ms=LONG_MS)

    taken = await asyncio.gather(*(store.take(NAME) for _ in range(20)))

    assert sorted(taken, key=bool) == [None] * 19 + [b"envelope"]


async def test_what_was_never_there_is_not_there(store: Deposits) -> None:
    """A name that somebody made up leads to nothing, and harms nothing."""
    await store.deposit(NAME, b"envelope", ttl_ms=LONG_MS)

    assert await store.take("ticket:" + "0b" * 16) is None
    assert await store.peek("journey:" + "0a" * 16) is None
    assert await store.peek(NAME) == b"envelope"


async def test_a_deposit_vanishes_by_itself(store: Deposits) -> None:
    """After its time nobody sees it or gets it."""
    await store.deposit(NAME, b"envelope", ttl_ms=40)

    await eventually(
        lambda: store.peek(NAME), lambda seen: seen is None, within_s=30, what="it to vanish"
    )

    assert await store.take(NAME) is None


async def test_what_was_taken_can_be_put_back(store: Deposits) -> None:
    """Who could not use it returns it, and the next one gets it once more."""
    await store.deposit(NAME, b"envelope", ttl_ms=LONG_MS)
    await store.take(NAME)

    await store.deposit(NAME, b"envelope", ttl_ms=LONG_MS)

    assert [await store.take(NAME) for _ in range(2)] == [b"envelope", None]
