"""A control listener over a whole sidecar on memory adapters, asked over real HTTP.

It must not know what a test asserts.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
from yarl import URL

from sidecar.domain.addresses import TcpAddress
from sidecar.domain.events import ControlCompleted
from sidecar.domain.policy import RefreshPolicy
from sidecar.domain.secret import Secret
from sidecar.http.control import ControlApi, ControlOptions, ControlPorts
from sidecar.http.control_calls import ConsentPage
from sidecar.http.listening import listen
from sidecar.service.connects import ConnectDesk, ConnectTerms
from sidecar.service.grants import GrantDesk
from sidecar.service.lifecycle import Lifecycle, Vitals
from sidecar.service.status_board import StatusBoard
from sidecar.service.status_desk import StatusDesk
from sidecar.service.steward import Steward
from tests.support.openapi import demand_described
from tests.support.scripted_idp import Step, pair_answer
from tests.support.sidecar_parts import CLIENT_ID, REDIRECT_URI, Rig, make_rig

CONTROL_KEY: Final = "canary-control-key-of-the-onboarding-app"
OTHER_KEY: Final = "canary-control-key-of-the-back-office"
GRANT: Final = "/grants/mikomo/u-1"
CODE: Final = "canary-authorization-code"
ONBOARDING: Final = {"user": "u-1", "provider": "mikomo", "code": CODE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Got:
    """One whole answer."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def document(self) -> dict[str, Any]:
        """The JSON of the body."""
        document: dict[str, Any] = json.loads(self.text)
        return document


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlRig:
    """A control listener and the sidecar behind it."""

    rig: Rig
    api: ControlApi
    desk: GrantDesk
    board: StatusBoard
    connects: ConnectDesk | None
    port: int
    session: aiohttp.ClientSession

    async def ask(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        key: str | None = CONTROL_KEY,
    ) -> Got:
        """Send one call; the path goes out as it is, and bytes as a body too."""
        sent = {} if key is None else {"Authorization": f"Bearer {key}"}
        if body is not None:
            sent["Content-Type"] = "application/json"
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        url = URL(f"http://127.0.0.1:{self.port}{path}", encoded=True)
        async with self.session.request(
            method, url, data=data, headers=sent | dict(headers or {})
        ) as answer:
            got = Got(status=answer.status, headers=answer.headers.copy(), text=await answer.text())
        demand_described(method, path.partition("?")[0], got.status, got.headers, got.text)
        return got

    async def onboard(self, first: str = "refresh-0") -> Got:
        """Obtain the grant that `GRANT` names."""
        self.rig.idp.then(pair_answer(first))
        return await self.ask("POST", "/grants", body=ONBOARDING)

    @property
    def completed(self) -> list[ControlCompleted]:
        """The accounts of all calls that have ended."""
        return self.rig.parts.observer.of(ControlCompleted)


@asynccontextmanager
async def running_control(
    *script: Step,
    redirect_uri: str | None = REDIRECT_URI,
    exchange_wait_s: float = 5.0,
    keeps_house: bool = False,
    connect_terms: ConnectTerms | None = None,
    max_in_flight: int = 1000,
) -> AsyncGenerator[ControlRig]:
    """Serve the control listener of a sidecar whose token service follows `script`.

    With `connect_terms` it makes connect links too.
    """
    rig = make_rig(policy=RefreshPolicy(exchange_wait_s=exchange_wait_s))
    rig.idp.then(*script)
    parts = rig.parts
    desk = GrantDesk(
        parts=parts.serving_parts,
        broker=parts.broker,
        steward=Steward(parts=parts.claim_parts, obtainer=parts.obtainer, revoker=parts.revoker),
    )
    page = ConsentPage(
        idp_url="https://idp.example",
        client_id=CLIENT_ID,
        scope="openid profile offline_access",
        redirect_uri=redirect_uri,
    )
    options = ControlOptions(
        control_keys={"onboarding": Secret(CONTROL_KEY), "back-office": Secret(OTHER_KEY)},
        consent_page=page,
        max_age_s=86400,
        max_in_flight=max_in_flight,
    )
    board = StatusBoard(behind=parts.observer, clock=rig.clock)
    status = StatusDesk(
        version="1.2.3",
        health=_health(rig),
        board=board,
        lane=parts.serving_parts.lane,
        clock=rig.clock,
    )
    entropy = parts.claim_parts.entropy
    connects = None
    if connect_terms is not None:
        connects = ConnectDesk(
            terms=connect_terms,
            deposits=rig.store,
            vault=parts.vault,
            entropy=entropy,
            desk=desk,
        )
    ports = ControlPorts(
        desk=desk,
        status=status,
        connects=connects,
        observer=parts.observer,
        clock=rig.clock,
        entropy=entropy,
    )
    async with parts.running(keeps_house=keeps_house):
        api = ControlApi(options=options, ports=ports)
        listener = await listen(api.runner, address=TcpAddress(host="127.0.0.1", port=0))
        try:
            async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
                yield ControlRig(
                    rig=rig,
                    api=api,
                    desk=desk,
                    board=board,
                    connects=connects,
                    port=listener.port,
                    session=session,
                )
        finally:
            await listener.close()


def _health(rig: Rig) -> Lifecycle:
    """Return the health of a sidecar that has started."""
    parts = rig.parts
    lifecycle = Lifecycle(
        vitals=Vitals(
            watch=parts.watch,
            journal=parts.claim_parts.journal,
            restraints=parts.claim_parts.restraints,
            lane=parts.serving_parts.lane,
            observer=parts.observer,
            clock=rig.clock,
        )
    )
    lifecycle.ready(version="1.2.3")
    return lifecycle
