"""Drives a sandbox over real HTTP as an app would, and turns its clock.

It must not look inside the sandbox.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, final

import aiohttp

if TYPE_CHECKING:
    from collections.abc import Mapping

CALLBACK: Final = "http://127.0.0.1:7777/callback"
BASIC: Final = aiohttp.encode_basic_auth("sandbox-client", "sandbox-secret")
APP: Final = {"client_id": "sandbox-client", "client_secret": "sandbox-secret"}
V3: Final = {
    "x-akoya-interaction-type": "BATCH",
    "x-akoya-last-access": "2026-06-01T12:00:00Z",
}
NOON: Final = 1_780_315_200.0  # 2026-06-01T12:00:00Z


@final
@dataclass(slots=True)
class FakeClock:
    """Unix time that moves when told."""

    now: float = NOON

    def __call__(self) -> float:
        return self.now

    def advance(self, span_s: float) -> None:
        self.now += span_s


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A whole response."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    json: Any


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A token set; the refresh token is empty where none came."""

    id_token: str = field(repr=False)
    refresh_token: str = field(repr=False)


@final
class AppDriver:
    """One registered app."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self.session = session
        self.url = url

    async def send(self, method: str, path: str, **options: Any) -> Answered:
        options.setdefault("allow_redirects", False)
        async with self.session.request(method, self.url + path, **options) as response:
            body = await response.read()
            is_json = response.content_type == "application/json" and body
            return Answered(
                status=response.status,
                headers=response.headers.copy(),
                body=body,
                json=await response.json() if is_json else None,
            )

    async def code(self, user: str, provider: str = "mikomo") -> str:
        wish = {"user": user, "provider": provider, "redirect_uri": CALLBACK}
        answered = await self.send("POST", "/sandbox/consents", json=wish)
        assert answered.status == 201, answered.json
        return str(answered.json["code"])

    async def exchange(self, code: str, /, **changes: str) -> Answered:
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": CALLBACK}
        headers = {"Authorization": BASIC}
        return await self.send("POST", "/token", data={**form, **changes}, headers=headers)

    async def connect(self, user: str, provider: str = "mikomo") -> Pair:
        return pair_of(await self.exchange(await self.code(user, provider)))

    async def refresh(self, refresh_token: str, /, **changes: str) -> Answered:
        form = {"grant_type": "refresh_token", "refresh_token": refresh_token, **APP}
        return await self.send("POST", "/token", data={**form, **changes})

    async def revoke(self, refresh_token: str, path: str = "/revoke") -> Answered:
        form = {"token": refresh_token, "token_type_hint": "refresh_token", **APP}
        return await self.send("POST", path, data=form)

    async def get(self, path: str, pair: Pair, **headers: str) -> Answered:
        bearer = {"Authorization": f"Bearer {pair.id_token}"}
        return await self.send("GET", path, headers={**bearer, **headers})

    async def arm(self, **fault: Any) -> int:
        answered = await self.send("POST", "/sandbox/faults", json=fault)
        assert answered.status == 201, answered.json
        return int(answered.json["ids"][0])

    async def entries(self) -> list[dict[str, Any]]:
        answered = await self.send("GET", "/sandbox/ledger")
        return list(answered.json["entries"])


def pair_of(answered: Answered) -> Pair:
    assert answered.status == 200, answered.json
    return Pair(
        id_token=answered.json["id_token"], refresh_token=answered.json.get("refresh_token", "")
    )
