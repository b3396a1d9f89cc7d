from __future__ import annotations

import asyncio

from tests.support.proxy_rig import running_proxy
from tests.support.raw_http import Asked, answer, request
from tests.support.wait import until


async def test_a_drain_ends_with_the_last_answer() -> None:
    """Running requests are answered to their end, new ones refused, connections closed."""
    release = asyncio.Event()

    async def wait(asked: Asked) -> None:
        await release.wait()
        asked.writer.write(answer(b"late"))
        await asked.writer.drain()

    async with running_proxy(wait) as rig, rig.client() as running, rig.client() as idle:
        await running.send(request())
        await until(lambda: rig.proxy.in_flight == 1, within_s=30, what="the request")
        rig.proxy.drain()
        refused = await idle.ask(request())
        drained = asyncio.ensure_future(rig.proxy.drained())
        await asyncio.wait([drained], timeout=0.01)
        was_early = drained.done()
        release.set()
        served = await running.read_answer()
        async with asyncio.timeout(5):
            await drained

        assert not was_early
        assert (served.body, served.value(b"connection")) == (b"late", b"close")
        assert (refused.status, refused.value(b"sidecar-error")) == (503, b"draining")
        assert refused.value(b"connection") == b"close"
        assert refused.value(b"retry-after") == b"1"
        assert await running.is_closed_by_peer()
        assert await idle.is_closed_by_peer()


async def test_an_idle_proxy_is_drained_at_once() -> None:
    """With nothing in flight there is nothing to wait for."""
    async with running_proxy(answer()) as rig:
        rig.proxy.drain()
        async with asyncio.timeout(1):
            await rig.proxy.drained()

        assert rig.proxy.in_flight == 0
