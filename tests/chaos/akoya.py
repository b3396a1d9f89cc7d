"""The sandbox in a process of its own, as the identity provider of a chaos run.

It owns the process and asks it over its control paths, as anybody could. It must not know what the
ledger proves.
"""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final, Self, final

import aiohttp

from tests.chaos.evidence import Presentation, ProviderGrant
from tests.chaos.plan import SETTINGS_OF, Plan
from tests.support.fleet import REDIRECT_URI, REPOSITORY

RESETS: Final = 0.01
REFUSALS: Final = 0.01
FRAMED: Final = 0.2
CUT_BEHIND: Final = 0.005
"""Of the answers that go out in a framing of their own, or end right behind their token."""
FRAMINGS: Final = ("length", "chunked", "close")
BESIDE: Final = ("nothing", "interim", "surplus")
DELAYS_S: Final = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5)
ID_TOKEN_LIFE_S: Final = 2
"""So short that a data call finds no token that it can use, and asks for a refresh."""
PROVIDERS: Final = tuple(f"bank-{number}" for number in range(16))
"""So many that the cap of claims for one bank does not bind."""
_WITHOUT_LIMIT: Final = aiohttp.ClientTimeout(total=None)


@final
class ChaosAkoya:
    """A running sandbox, for `async with`."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session
        self._process: asyncio.subprocess.Process | None = None
        self.url = ""

    async def __aenter__(self) -> Self:
        options = ("--listen", "127.0.0.1:0", "--key-bits", "1024")
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "sidecar", "sandbox", *options),
            *("--id-token-life-s", str(ID_TOKEN_LIFE_S)),
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        line = (await self._process.stdout.readline()).decode()
        self.url = line.removeprefix("sandbox listening on ").strip()
        assert self.url.startswith("http://"), f"the sandbox said {line!r}"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process is not None
        self._process.kill()
        await self._process.wait()

    async def consent(self, user: str) -> str:
        """Let a user agree; return the code."""
        body = {"user": user, "provider": provider_of(user), "redirect_uri": REDIRECT_URI}
        answer = await self._call("POST", "/sandbox/consents", body)
        code: str = answer["code"]
        return code

    async def misbehave(self, plan: Plan) -> None:
        """Take the personality of the plan on, and begin to fail now and then."""
        await self._call("PATCH", "/sandbox/settings", SETTINGS_OF[plan.personality])
        faults = [_fault("drop_before", RESETS), _fault("status_before", REFUSALS)]
        if plan.dropped:
            faults.append(_fault("drop_after", plan.dropped / 2))
            # Cut before its refresh token is whole, an answer is lost like one that is dropped.
            faults += [
                _fault("cut_after", plan.dropped / 6, framing=framing, after_bytes=after_bytes)
                for framing, after_bytes in zip(FRAMINGS, (0, 60, -8), strict=True)
            ]
        faults += [*_framed_answers(), *_framed_refusals()]
        slow = list(itertools.product(("slow_before", "slow_after"), DELAYS_S))
        faults += [
            _fault(kind, plan.slowness / len(slow), delay_s=delay_s) for kind, delay_s in slow
        ]
        await self._call("POST", "/sandbox/faults", faults)

    async def behave(self) -> None:
        """Fail no more."""
        await self._call("DELETE", "/sandbox/faults")

    async def rotations(self) -> int:
        """Return how many refreshes succeeded so far."""
        summary = await self._call("GET", "/sandbox/ledger/summary")
        rotations: int = summary["rotations"]
        return rotations

    async def presentations(self) -> tuple[Presentation, ...]:
        """Return the refreshes of the ledger."""
        entries: Sequence[dict[str, Any]] = (await self._call("GET", "/sandbox/ledger"))["entries"]
        return tuple(
            Presentation.read(entry) for entry in entries if entry["presentation"] == "refresh"
        )

    async def grants(self) -> tuple[ProviderGrant, ...]:
        """Return the newest grant of each user."""
        grants: Sequence[dict[str, Any]] = (await self._call("GET", "/sandbox/grants"))["grants"]
        newest = {
            grant["user"]: ProviderGrant(
                user=grant["user"], token=grant["token"], ended=grant["ended"]
            )
            for grant in grants
        }
        return tuple(newest.values())

    async def _call(self, method: str, path: str, body: object = None) -> Any:
        url = f"{self.url}{path}"
        async with self._session.request(method, url, json=body, timeout=_WITHOUT_LIMIT) as answer:
            assert answer.status < 300, await answer.text()
            return await answer.json(content_type=None)


def provider_of(user: str) -> str:
    """Return the bank of a user; user ids end in a number."""
    return PROVIDERS[int(user.rpartition("-")[2]) % len(PROVIDERS)]


def _framed_answers() -> list[dict[str, object]]:
    """Whole answers in every framing, and such as end right behind their refresh token."""
    shapes = list(itertools.product(FRAMINGS, BESIDE))
    whole = [
        _fault("frame", FRAMED / len(shapes), framing=framing, beside=beside)
        for framing, beside in shapes
    ]
    return whole + [
        _fault("cut_after", CUT_BEHIND / len(FRAMINGS), framing=framing, after_bytes=-1)
        for framing in FRAMINGS
    ]


def _framed_refusals() -> list[dict[str, object]]:
    """What a gateway says in the service's place, in every framing and with either end."""
    shapes = list(itertools.product(FRAMINGS, ("fin", "rst"), (429, 503)))
    return [
        _fault("status_before", REFUSALS / len(shapes), framing=framing, end=end, status=status)
        for framing, end, status in shapes
    ]


def _fault(kind: str, chance: float, *, delay_s: float = 0.0, **more: object) -> dict[str, object]:
    return {
        "operation": "refresh",
        "kind": kind,
        "times": 0,
        "chance": chance,
        "delay_s": delay_s,
        **more,
    }
