"""T12: the sealing key is replaced under load, and nothing that nobody can open reaches Akoya.

It must not know how much load is enough.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import signal
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Final

import aiohttp

from tests.proofs.terminations import is_lost
from tests.support.deployment import BANKS, Deployment, deployment, presented_again, refreshes
from tests.support.fleet import ENCRYPTION_KEYS, SidecarProcess
from tests.support.secrets_search import every_token, found_in, telling_parts
from tests.support.wait import eventually, until

OLD: Final = ENCRYPTION_KEYS
NEW: Final = "k2:" + base64.b64encode(b"n" * 32).decode()
STRANGE: Final = "k9:" + base64.b64encode(b"s" * 32).decode()
WRONG: Final = "k2:" + base64.b64encode(b"w" * 32).decode()
PHASES: Final = (f"{OLD},{NEW}", f"{NEW},{OLD}")
"""First everybody can open what the new key seals, then it seals."""

SIDECARS: Final = ("first", "second")
CALLERS: Final = 4
WRONG_CONFIGURATION: Final = 78
WITHIN_S: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """What came of replacing the key.

    Attributes:
        refreshes: Presentations while keys were replaced.
        lost: Grants that are not active with the newest generation that Akoya gave.
        unopened: Presentations by sidecars that cannot open the records.
        plain: Tokens found in what Redis keeps, in spools and in logs.
        searched_mib: How much was searched.
        wrong_exit: The code with which a sidecar with a wrong key under a known name ends.
    """

    refreshes: int
    repeated: int
    lost: int
    unopened: int
    plain: int
    searched_mib: float
    wrong_exit: int


async def rotation(directory: Path, *, grants: int, refreshes_each: int) -> Rotation:
    """Replace the key of a fleet of two under load, and let two strangers try."""
    users = [(f"user-{number}", BANKS[number % len(BANKS)]) for number in range(grants)]
    with every_token() as issued:
        async with deployment(directory) as world:
            fleet = _Fleet(world)
            await fleet.start()
            for user, provider in users:
                await world.app.onboard(fleet.one(0), user, provider=provider)
            await _rotate(world, fleet, users, refreshes_each=refreshes_each)
            presented = refreshes(world.sandbox)
            for user, bank in users:
                await eventually(
                    partial(fleet.refreshed, user, bank),
                    bool,
                    within_s=WITHIN_S,
                    what="a refresh with the new key in front",
                )
            before = refreshes(world.sandbox)
            await _stranger(world, users)
            wrong_exit = await _wrong(world)
            unopened = refreshes(world.sandbox) - before
            lost = sum([await is_lost(world, fleet.one(0), user, bank) for user, bank in users])
            repeated = presented_again(world.sandbox)
            searched = _everything_written(world)
    return Rotation(
        refreshes=presented,
        repeated=repeated,
        lost=lost,
        unopened=unopened,
        plain=len(found_in(searched, telling_parts(issued))),
        searched_mib=len(searched) / (1 << 20),
        wrong_exit=wrong_exit,
    )


class _Fleet:
    """Two sidecars of which one may be restarting."""

    def __init__(self, world: Deployment) -> None:
        self._world = world
        self._sidecars: dict[str, SidecarProcess] = {}
        self._chance = Random(12)  # noqa: S311 - which sidecar

    async def start(self) -> None:
        self._world.place.environ = {"SIDECAR_ENCRYPTION_KEYS": OLD}
        for name in SIDECARS:
            self._sidecars[name] = await self._world.start(name)

    async def restart(self, name: str) -> None:
        leaving = self._sidecars.pop(name)
        leaving.signal(signal.SIGTERM)
        await leaving.ended(within_s=WITHIN_S)
        self._sidecars[name] = await self._world.start(name)

    def one(self, number: int) -> SidecarProcess:
        return list(self._sidecars.values())[number]

    async def refreshed(self, user: str, provider: str) -> bool:
        """Whether some sidecar refreshed the grant or found it refreshed."""
        sidecar = self._chance.choice(list(self._sidecars.values()))
        with contextlib.suppress(aiohttp.ClientError):  # it was told to end meanwhile
            return await self._world.app.refresh(sidecar, user, provider=provider) == 200
        return False


async def _rotate(
    world: Deployment, fleet: _Fleet, users: list[tuple[str, str]], *, refreshes_each: int
) -> None:
    """Bring each phase to each sidecar in turn, while callers refresh all the time."""
    chance = Random(13)  # noqa: S311 - whose turn it is
    is_over = asyncio.Event()

    async def load() -> None:
        while not is_over.is_set():
            await fleet.refreshed(*chance.choice(users))

    async with asyncio.TaskGroup() as group:
        for _ in range(CALLERS):
            group.create_task(load())
        for keys in PHASES:
            world.place.environ = {"SIDECAR_ENCRYPTION_KEYS": keys}
            for name in SIDECARS:
                wanted = refreshes(world.sandbox) + refreshes_each
                await fleet.restart(name)
                await _more(world, wanted)
        is_over.set()


async def _more(world: Deployment, wanted: int) -> None:
    await until(
        lambda: refreshes(world.sandbox) >= wanted,
        within_s=WITHIN_S,
        what="the load of this phase",
    )


async def _stranger(world: Deployment, users: list[tuple[str, str]]) -> None:
    """Let a sidecar that has another key under another name try to refresh every grant."""
    world.place.environ = {"SIDECAR_ENCRYPTION_KEYS": STRANGE}
    stranger = await world.start("stranger")
    for user, provider in users:
        status = await world.app.refresh(stranger, user, provider=provider)
        assert status == 503, status
    stranger.signal(signal.SIGTERM)
    await stranger.ended(within_s=WITHIN_S)


async def _wrong(world: Deployment) -> int:
    """Let a sidecar start that has another key under the name of the new one."""
    world.place.environ = {"SIDECAR_ENCRYPTION_KEYS": WRONG}
    wrong = SidecarProcess(world.place, name="wrong")
    with contextlib.suppress(AssertionError):  # it never gets ready
        await wrong.start()
    code = await wrong.ended(within_s=WITHIN_S)
    assert code == WRONG_CONFIGURATION, wrong.raw_log
    return code


def _everything_written(world: Deployment) -> bytes:
    """Return every byte of Redis' files, of the spools and of the logs."""
    with world.redis.client() as client:
        client.config_set("rdbcompression", "no")
        client.save()
    return b"\n".join(path.read_bytes() for path in world.directory.rglob("*") if path.is_file())
