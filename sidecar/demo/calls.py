"""The demo's calls: as a microservice to the sidecars, as user and tester to the sandbox."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final, final
from urllib.parse import parse_qs, urlsplit

import aiohttp

from sidecar.demo.failure import WalkFailed
from sidecar.demo.processes import Sidecar

PROVIDER: Final = "mikomo"
DATA_PATH: Final = f"/accounts-info/v2/{PROVIDER}"
HTTP_OK: Final = 200
HTTP_FOUND: Final = 302


@final
class Calls:
    """One HTTP session for everybody the demo plays."""

    def __init__(
        self, session: aiohttp.ClientSession, *, sandbox_url: str, control_key: str
    ) -> None:
        self._session = session
        self._sandbox_url = sandbox_url
        self._control = {"Authorization": f"Bearer {control_key}"}

    async def consent(self, authorize_url: str, user: str) -> str:
        """Log in at the bank, agree and choose every account; return the code."""
        page = await self._page("GET", authorize_url)
        for path, extra in (
            ("/auth/sign-in", {"username": user, "password": user, "decision": "next"}),
            ("/auth/terms", {"decision": "next"}),
        ):
            fields = {"request": _hidden(page), **extra}
            page = await self._page("POST", f"{self._sandbox_url}{path}", data=fields)
        accounts = re.findall(r'name="account" value="([^"]+)"', page)
        form = [("request", _hidden(page)), ("decision", "approve")]
        form += [("account", account) for account in accounts]
        async with self._session.post(
            f"{self._sandbox_url}/auth/accounts", data=form, allow_redirects=False
        ) as answer:
            if answer.status not in range(HTTP_FOUND, HTTP_FOUND + 2):
                raise WalkFailed(f"the bank answered {answer.status} to the approval")
            return parse_qs(urlsplit(answer.headers["Location"]).query)["code"][0]

    async def grants(
        self, sidecar: Sidecar, method: str, path: str, body: Mapping[str, str] | None = None
    ) -> tuple[int, dict[str, Any]]:
        """Call the grants API; return status and body."""
        async with self._session.request(
            method, f"{sidecar.urls['control']}{path}", headers=self._control, json=body
        ) as answer:
            return answer.status, await answer.json() if answer.content_length else {}

    async def data(self, sidecar: Sidecar, user: str) -> tuple[int, str, dict[str, Any]]:
        """Read the user's accounts through a sidecar: status, `Sidecar-Error`, body."""
        async with self._session.get(
            f"{sidecar.urls['proxy']}{DATA_PATH}", headers={"Sidecar-User": user}
        ) as answer:
            body: dict[str, Any] = await answer.json(content_type=None)
            return answer.status, answer.headers.get("Sidecar-Error", ""), body

    async def data_at_once(
        self, sidecars: Sequence[Sidecar], user: str, *, calls: int
    ) -> Counter[int]:
        """Read the accounts `calls` times at once, in turn through each sidecar."""
        answers = await asyncio.gather(
            *(self.data(sidecars[turn % len(sidecars)], user) for turn in range(calls))
        )
        return Counter(status for status, _, _ in answers)

    async def sandbox(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """Use the sandbox's own controls."""
        async with self._session.request(
            method, f"{self._sandbox_url}/sandbox/{path}", json=body
        ) as answer:
            if answer.status >= HTTP_OK + 100:
                raise WalkFailed(f"the sandbox answered {answer.status} to {path}")
            told: dict[str, Any] = await answer.json() if answer.content_length else {}
            return told

    async def refreshes(self, user: str) -> list[dict[str, Any]]:
        """Every presentation of a refresh token of this user, from the sandbox's ledger."""
        ledger = await self.sandbox("GET", f"ledger?user={user}")
        return [entry for entry in ledger["entries"] if entry["presentation"] == "refresh"]

    async def _page(self, method: str, url: str, **options: Any) -> str:
        async with self._session.request(method, url, **options) as answer:
            if answer.status != HTTP_OK:
                raise WalkFailed(f"the bank's page answered {answer.status}")
            return await answer.text()


def _hidden(page: str) -> str:
    found = re.search(r'name="request" value="([^"]+)"', page)
    if found is None:
        raise WalkFailed("the bank's page has no form")
    return found[1]
