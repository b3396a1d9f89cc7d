"""The walk: six things an app and its operators care about, each done and checked."""

from __future__ import annotations

import asyncio
import signal
from types import TracebackType
from typing import Final, Self, final

import aiohttp

from sidecar.demo.calls import DATA_PATH, PROVIDER, Calls
from sidecar.demo.failure import WalkFailed
from sidecar.demo.processes import Sidecar, Stage
from sidecar.demo.screen import Screen

ANNA: Final = "mikomo_10"
BERT: Final = "mikomo_14"
CLARA: Final = "mikomo_7"
CALLERS: Final = 200
PATIENCE_S: Final = 15.0


@final
class Walk:
    """Shows the main job step by step."""

    def __init__(self, *, stage: Stage, screen: Screen) -> None:
        self._stage = stage
        self._screen = screen
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        self._calls = Calls(
            self._session, sandbox_url=stage.sandbox_url, control_key=stage.control_key
        )
        self._first: Sidecar
        self._second: Sidecar

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._session.close()

    async def run(self) -> None:
        """Take every step.

        Raises:
            WalkFailed: Something that should be so is not.
        """
        await self._start()
        await self._onboard()
        await self._read_data()
        await self._expire_under_load()
        await self._kill_with_the_pair_on_disk_only()
        await self._end_the_consent()

    def say_what_to_try(self) -> None:
        """Print what a person can do with the running parts."""
        control, key = self._first.urls["control"], self._stage.control_key
        self._screen.step("Everything stays up; try it (Ctrl-C ends it)")
        self._screen.tell("read data as the app does, without any token:")
        self._screen.quote(
            f"curl -H 'Sidecar-User: {CLARA}' {self._first.urls['proxy']}{DATA_PATH}"
        )
        self._screen.tell(
            "reject the token that is in use, and read again (a token that was itself"
        )
        self._screen.tell("refreshed less than 30 s ago is not replaced: then you see the 401):")
        self._screen.quote(
            f"curl -X POST -H 'Content-Type: application/json' -d '{{\"user\": \"{CLARA}\"}}' "
            f"{self._stage.sandbox_url}/sandbox/expire-id-tokens"
        )
        self._screen.tell("see a grant, and have it refreshed now:")
        self._screen.quote(
            f"curl -H 'Authorization: Bearer {key}' {control}/grants/{PROVIDER}/{CLARA}\n"
            f"curl -X POST -H 'Authorization: Bearer {key}' "
            f"{control}/grants/{PROVIDER}/{CLARA}/refresh"
        )
        self._screen.tell("metrics, and every presentation of a refresh token:")
        self._screen.quote(
            f"curl {self._first.urls['metrics']}/metrics\n"
            f"curl {self._stage.sandbox_url}/sandbox/ledger"
        )

    async def _start(self) -> None:
        self._screen.step("Starting a store, the sandbox (a local Akoya) and two sidecars")
        self._first = await self._stage.start_sidecar("sidecar-1")
        self._second = await self._stage.start_sidecar("sidecar-2")
        self._screen.held(f"store: {self._stage.store_program} at {self._stage.redis_url}")
        self._screen.held(f"sandbox: {self._stage.sandbox_url}")
        for sidecar in (self._first, self._second):
            self._screen.held(f"{sidecar.part.name}: proxy {sidecar.urls['proxy']}")

    async def _onboard(self) -> None:
        self._screen.step("Three end users link their bank: consent page, code, grant")
        for user in (ANNA, BERT, CLARA):
            query = f"?provider={PROVIDER}&state=demo-state-{user}"
            _, told = await self._calls.grants(self._first, "GET", f"/authorize-url{query}")
            code = await self._calls.consent(told["url"], user)
            body = {"user": user, "provider": PROVIDER, "code": code}
            status, grant = await self._calls.grants(self._first, "POST", "/grants", body)
            self._check(status == 201, f"POST /grants for {user}: {status}, {grant.get('state')}")  # noqa: PLR2004 - Created

    async def _read_data(self) -> None:
        self._screen.step("The app reads data and never sees a token")
        for sidecar in (self._first, self._second):
            status, _, body = await self._calls.data(sidecar, ANNA)
            accounts = len(body.get("accounts", []))
            self._check(
                status == 200 and accounts > 0,  # noqa: PLR2004 - OK
                f"GET {DATA_PATH} through {sidecar.part.name}: {status}, {accounts} account(s)",
            )

    async def _expire_under_load(self) -> None:
        self._screen.step(f"Akoya rejects the token while {CALLERS} callers use both sidecars")
        await self._calls.sandbox("POST", "expire-id-tokens", {"user": ANNA})
        counted = await self._calls.data_at_once((self._first, self._second), ANNA, calls=CALLERS)
        self._check(counted == {200: CALLERS}, f"answers by status: {dict(counted)}")
        claims = await self._calls.refreshes(ANNA)
        self._check(len(claims) == 1, f"refresh tokens presented to Akoya: {len(claims)}")

    async def _kill_with_the_pair_on_disk_only(self) -> None:
        self._screen.step("The store hangs, then sidecar-1 is killed with the only copy of a pair")
        slow = {"operation": "refresh", "kind": "slow_after", "delay_s": 1.0, "user": ANNA}
        await self._calls.sandbox("POST", "faults", slow)
        path = f"/grants/{PROVIDER}/{ANNA}/refresh"
        asking = asyncio.ensure_future(self._calls.grants(self._first, "POST", path))
        await self._until_presented(2)
        self._stage.store.send(signal.SIGSTOP)
        self._screen.held("Akoya has rotated the token; the store hangs before it can be told")
        await self._first.part.says('"generation":2')
        self._first.part.send(signal.SIGKILL)
        await asyncio.gather(asking, return_exceptions=True)
        self._stage.store.send(signal.SIGCONT)
        self._screen.held("sidecar-1 killed (SIGKILL), the store goes on")
        await self._first.start()
        generation = await self._generation_from(self._second, at_least=2)
        self._check(generation == 2, f"after its restart the grant is at generation {generation}")  # noqa: PLR2004 - two refreshes so far
        status, _, _ = await self._calls.data(self._second, ANNA)
        self._check(status == 200, f"data through sidecar-2: {status}")  # noqa: PLR2004 - OK
        summary = await self._calls.sandbox("GET", "ledger/summary")
        twice = summary["presented_twice"]
        self._check(not twice, f"tokens presented twice: {len(twice)}")

    async def _end_the_consent(self) -> None:
        self._screen.step("An end user withdraws the consent at the bank")
        await self._calls.sandbox("POST", "revoke-consent", {"user": BERT})
        status, reason, body = await self._calls.data(self._first, BERT)
        self._check(
            (status, reason) == (401, "reauth_required"),
            f"the app sees {status}, Sidecar-Error: {reason}",
        )
        self._screen.quote(str(body.get("detail", "")))
        status, grant = await self._calls.grants(self._first, "GET", f"/grants/{PROVIDER}/{BERT}")
        self._check(
            grant.get("state") == "reauth_required",
            f"GET /grants/{PROVIDER}/{BERT}: {status}, {grant.get('state')}",
        )

    async def _until_presented(self, times: int) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while len(await self._calls.refreshes(ANNA)) < times:  # noqa: ASYNC110 - over HTTP
                await asyncio.sleep(0.01)

    async def _generation_from(self, sidecar: Sidecar, *, at_least: int) -> int:
        """Return the stored generation, once it is `at_least` that or patience is over."""
        loop = asyncio.get_running_loop()
        until = loop.time() + PATIENCE_S
        while True:
            _, grant = await self._calls.grants(sidecar, "GET", f"/grants/{PROVIDER}/{ANNA}")
            generation = int(grant.get("generation", -1))
            if generation >= at_least or loop.time() > until:
                return generation
            await asyncio.sleep(0.05)

    def _check(self, holds: bool, fact: str) -> None:  # noqa: FBT001 - reads as a sentence
        if not holds:
            raise WalkFailed(fact)
        self._screen.held(fact)
