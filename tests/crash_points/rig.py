"""Real processes for the cases of `table`: a store, a local Akoya, a doomed and a healthy sidecar.

One rig lives through a series of cases, each with an end user of its own; the doomed sidecar is
told at which step of which grant it stops. What a case came to is read from the sandbox's ledger,
the grants API and the metrics. It must not know what is expected.
"""

from __future__ import annotations

import asyncio
import signal
import tempfile
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, Literal, final
from urllib.parse import urlsplit

import aiohttp

from sidecar.domain.events import LossCause
from sidecar.domain.record import GrantId, GrantKey, GrantState
from sidecar.sandbox import Sandbox, SandboxSettings
from sidecar.sandbox.ledger import Entry
from tests.crash_points.table import Case, Fault, Found, Store
from tests.support.faultline import Direction, Faultline
from tests.support.faultline import Fault as LineFault
from tests.support.fleet import App, FleetPlace, SidecarProcess
from tests.support.redis_server import RedisServer
from tests.support.sidecar_parts import sealer
from tests.support.wait import eventually, until

PROVIDER: Final = "mikomo"
WAIT_S: Final = 90.0
HELD_STEP: Final = 8
TIMES: Final = {
    "lease_s": 2.0,
    "send_window_s": 1.0,
    "hold_s": 3.0,
    "keep_every_s": 1.0,
    "quarantine_s": 2.0,
    "heal_s": 2.0,
    "commit_retry_limit_s": 0.5,
    "store_probe_every_s": 0.3,
}
PATIENT_TIMES: Final = {**TIMES, "heal_s": 300.0}
"""Of the healthy one: what it doubts is to be healed by the other, however slow the machine is."""
LOSSES: Final = tuple(cause for cause in LossCause if cause is not LossCause.CONSENT_OR_EXPIRY)


@final
class ArrivalGate(asyncio.Event):
    """A gate of a `Faultline` that tells when something has come up to it."""

    has_arrival = False

    async def wait(self) -> Literal[True]:
        """Wait until the gate is opened."""
        self.has_arrival = True
        return await super().wait()


@final
class CrashRig:
    """The processes of one series of cases; made by `crash_rig`."""

    def __init__(self, *, place: FleetPlace, redis: RedisServer, line: Faultline, app: App) -> None:
        self._sandbox = place.sandbox
        self._redis = redis
        self._line = line
        self._app = app
        self._doomed = SidecarProcess(replace(place, times=TIMES), name="doomed")
        self._peer = SidecarProcess(replace(place, times=PATIENT_TIMES), name="peer")
        self._steps: dict[GrantId, int] = {}

    async def start(self, cases: Sequence[Case]) -> list[str]:
        """Start both sidecars; return the end user of each case."""
        users = [f"mikomo_{number}" for number, _ in enumerate(cases, start=1)]
        self._steps = {_grant(user): case.step for user, case in zip(users, cases, strict=True)}
        self._doomed.will_stop_at(self._steps)
        await self._peer.start()
        await self._doomed.start()
        return users

    def end(self) -> None:
        """End every process."""
        for process in (self._doomed, self._peer):
            process.kill()

    async def play(self, case: Case, user: str) -> Found:
        """Let one case happen to a new grant, and let all become well."""
        await self._app.onboard(self._peer, user)
        told = await self._losses()
        if case.store is Store.ROLLED_BACK:
            with self._redis.client() as client:
                client.save()
        gate = ArrivalGate() if case.step == HELD_STEP else None
        if gate is not None:
            self._line.fault = LineFault(request=Direction(gate=gate))
        self._sandbox.grants.expire_id_tokens(user=user, provider=None)
        caller = asyncio.ensure_future(self._app.fetch(self._doomed, user))
        await self._stopped(gate)
        self._line.fault = LineFault()
        await self._hit_the_store(case)
        meanwhile = None
        if case.fault is Fault.KILL:
            told = await self._kill(user)
        else:
            meanwhile = await self._outwait(case, user, gate)
        if case.store is Store.AWAY:
            self._redis.resume()
        state = await self._at_rest(user, self._doomed)
        if gate is not None and not gate.is_set():
            gate.set()
            what = "the held request to arrive after all"
            await until(lambda: len(self._attempts(user)) > 1, within_s=WAIT_S, what=what)
        await asyncio.gather(caller, return_exceptions=True)
        later = Counter(entry.token for entry in self._presentations(user) if entry.generation)
        return Found(
            state=state,
            attempts=len(self._attempts(user)),
            is_repeated=any(times > 1 for times in later.values()),
            losses=tuple((await self._losses() - told).elements()),
            meanwhile=meanwhile,
        )

    async def _stopped(self, gate: ArrivalGate | None) -> None:
        """Wait until the doomed sidecar stands still at its step."""
        if gate is not None:
            await until(lambda: gate.has_arrival, within_s=WAIT_S, what="the request to leave")
            self._doomed.signal(signal.SIGSTOP)
        await until(self._is_stopped, within_s=WAIT_S, what="the doomed sidecar to stop")

    def _is_stopped(self) -> bool:
        status = Path(f"/proc/{self._doomed.pid}/stat").read_text()
        return status.rpartition(")")[2].split()[0] == "T"

    async def _hit_the_store(self, case: Case) -> None:
        match case.store:
            case Store.OK:
                pass
            case Store.AWAY:
                self._redis.pause()
            case Store.ROLLED_BACK:
                self._redis.kill()
                await asyncio.to_thread(self._redis.start)

    async def _kill(self, user: str) -> Counter[LossCause]:
        """Kill the doomed sidecar and start it again; return what was told as lost so far."""
        self._doomed.kill()
        told = await self._losses()
        del self._steps[_grant(user)]
        self._doomed.will_stop_at(self._steps)
        await self._doomed.start()
        return told

    async def _outwait(self, case: Case, user: str, gate: ArrivalGate | None) -> GrantState | None:
        """Keep the doomed sidecar stopped past its hold; return what the other one made of it."""
        meanwhile = None
        if case.store is Store.AWAY:
            await _pass(2 * TIMES["hold_s"])
        else:
            meanwhile = await self._at_rest(user, self._peer, is_doubt_enough=True)
        if gate is not None:
            gate.set()
        self._doomed.signal(signal.SIGCONT)
        if case.store is Store.AWAY:
            await _pass(2 * TIMES["send_window_s"])
        return meanwhile

    async def _at_rest(
        self, user: str, asked: SidecarProcess, *, is_doubt_enough: bool = False
    ) -> GrantState:
        """Ask for the grant until it has a newer pair, or is known to have none."""

        async def look() -> tuple[GrantState | None, int]:
            await self._app.fetch(asked, user)
            path = f"/grants/{PROVIDER}/{user}"
            async with self._app.control(self._peer, "GET", path) as answer:
                if answer.status != HTTPStatus.OK:
                    return None, 0
                grant: dict[str, Any] = await answer.json()
                is_public = {state.public: state for state in GrantState}
                return is_public[grant["state"]], grant["generation"]

        def is_right(seen: tuple[GrantState | None, int]) -> bool:
            state, generation = seen
            if state is GrantState.ACTIVE:
                return generation > 0
            is_doubted = state is GrantState.IN_DOUBT and is_doubt_enough
            return is_doubted or state is GrantState.REAUTH_REQUIRED

        state, _ = await eventually(look, is_right, within_s=WAIT_S, what=f"{user} to be at rest")
        assert state is not None
        return state

    def _presentations(self, user: str) -> list[Entry]:
        return [
            entry
            for entry in self._sandbox.ledger
            if entry.user == user and entry.presentation == "refresh"
        ]

    def _attempts(self, user: str) -> list[Entry]:
        """Return the presentations of the token that came with the consent."""
        return [entry for entry in self._presentations(user) if entry.generation == 0]

    async def _losses(self) -> Counter[LossCause]:
        """Return what the running sidecars have told as lost."""
        told: Counter[LossCause] = Counter()
        for process in (self._peer, self._doomed):
            if process.is_running:
                for cause in LOSSES:
                    series = f'sidecar_token_losses_total{{cause="{cause.value}"}}'
                    told[cause] += int(await self._app.metric(process, series))
        return told


@asynccontextmanager
async def crash_rig(cases: Sequence[Case]) -> AsyncGenerator[tuple[CrashRig, list[str]]]:
    """Run the processes for a series of cases; yields the rig and the end user of each case."""
    with tempfile.TemporaryDirectory(prefix="sidecar-crash-") as name:
        directory = Path(name)
        redis = RedisServer(directory)
        redis.start()
        try:
            async with (
                Sandbox(SandboxSettings(key_bits=1024)) as sandbox,
                Faultline(port=urlsplit(sandbox.url).port or 0) as line,
                aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
            ):
                place = FleetPlace(
                    directory=directory,
                    redis_url=redis.url,
                    redis_prefix="crash",
                    sandbox=sandbox,
                    environ={"SIDECAR_IDP_URL": f"http://127.0.0.1:{line.port}"},
                )
                rig = CrashRig(place=place, redis=redis, line=line, app=App(session, sandbox))
                try:
                    yield rig, await rig.start(cases)
                finally:
                    rig.end()
        finally:
            redis.stop()


def _grant(user: str) -> GrantId:
    """Return the name of a grant; it hangs on the hash key alone, which all tests share."""
    return sealer().grant_id(GrantKey(user=user, provider=PROVIDER))


async def _pass(seconds: float) -> None:
    loop = asyncio.get_running_loop()
    over_s = loop.time() + seconds
    await until(lambda: loop.time() >= over_s, within_s=WAIT_S, what=f"{seconds} s to pass")
