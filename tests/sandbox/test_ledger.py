"""The ledger tells every presentation of a refresh token in order, and never a token."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

import aiohttp
import pytest

from sidecar.sandbox import Fault
from sidecar.sandbox.ids import digest
from tests.sandbox.driver import APP, NOON, pair_of

if TYPE_CHECKING:
    from sidecar.sandbox import Sandbox
    from sidecar.sandbox.faults import Kind
    from tests.sandbox.driver import AppDriver


async def test_a_presentation_is_told_whole(app: AppDriver) -> None:
    """An entry names time, digest, grant, generation, outcome, answer, peer and request."""
    pair = await app.connect("mikomo_10")
    form = {"grant_type": "refresh_token", "refresh_token": pair.refresh_token, **APP}

    await app.send("POST", "/token", data=form, headers={"X-Request-Id": "abc"})
    (entry,) = await app.entries()
    (grant,) = (await app.send("GET", "/sandbox/grants")).json["grants"]

    peer = entry.pop("client_ip_port")
    assert peer.startswith("127.0.0.1:")
    assert entry == {
        "seq": 1,
        "at": NOON,
        "arrived_at": NOON,
        "answered_at": NOON,
        "presentation": "refresh",
        "token": digest(pair.refresh_token),
        "successor": grant["token"],
        "user": "mikomo_10",
        "provider": "mikomo",
        "family": grant["family"],
        "generation": 0,
        "outcome": "rotated",
        "status": 200,
        "answer": "sent",
        "client_gone": False,
        "request_id": "abc",
    }


async def test_a_life_is_told_in_order(app: AppDriver) -> None:
    """Refreshes, a second use, an unknown token and revokes appear as they came."""
    first = await app.connect("mikomo_10")
    second = pair_of(await app.refresh(first.refresh_token))
    await app.refresh(first.refresh_token)
    await app.refresh("never-issued")
    await app.refresh(second.refresh_token, client_secret="wrong")
    await app.revoke(second.refresh_token)
    await app.revoke(second.refresh_token)

    told = [
        (each["presentation"], each["outcome"], each["status"], each["generation"])
        for each in await app.entries()
    ]

    assert told == [
        ("refresh", "rotated", 200, 0),
        ("refresh", "denied", 400, 0),
        ("refresh", "denied", 400, None),
        ("refresh", "error", 401, 1),
        ("revoke", "revoked", 200, 1),
        ("revoke", "denied", 400, 1),
    ]


async def test_hydra_and_grace_have_their_own_outcomes(app: AppDriver, sandbox: Sandbox) -> None:
    """A use within the grace is told as such, and one past it that ends the family too."""
    sandbox.tune(profile="hydra", grace_s=10)
    pair = await app.connect("mikomo_10")
    await app.refresh(pair.refresh_token)
    await app.refresh(pair.refresh_token)
    sandbox.tune(grace_s=0)
    await app.refresh(pair.refresh_token)

    outcomes = [entry.outcome for entry in sandbox.ledger]

    assert outcomes == ["rotated", "grace", "family_revoked"]


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("drop_before", ("dropped", None, "dropped")),
        ("drop_after", ("rotated", 200, "dropped")),
        ("cut_after", ("rotated", 200, "cut")),
        ("status_before", ("error", 503, "sent")),
        ("status_after", ("rotated", 503, "sent")),
        ("html", ("error", 200, "sent")),
    ],
)
async def test_a_fault_leaves_its_mark(
    app: AppDriver, sandbox: Sandbox, kind: Kind, told: tuple[str, int | None, str]
) -> None:
    """What was done to the token and what became of the answer are told apart."""
    pair = await app.connect("mikomo_10")
    sandbox.faults.add(Fault(operation="refresh", kind=kind))
    lost = nullcontext() if told[2] == "sent" else pytest.raises(aiohttp.ClientError)

    with lost:
        await app.refresh(pair.refresh_token)

    (entry,) = sandbox.ledger
    assert (entry.outcome, entry.status, entry.answer) == told


async def test_the_summary_finds_tokens_presented_twice(app: AppDriver, sandbox: Sandbox) -> None:
    """A token that arrived twice is named; one whose first arrival a fault ate is not claimed."""
    claimed, repeated = await app.connect("mikomo_10"), await app.connect("mikomo_7")
    await app.refresh(claimed.refresh_token)
    await app.refresh(claimed.refresh_token)
    sandbox.faults.add(Fault(operation="refresh", kind="status_before"))
    await app.refresh(repeated.refresh_token)
    await app.refresh(repeated.refresh_token)

    summary = (await app.send("GET", "/sandbox/ledger/summary")).json

    assert (summary["presentations"], summary["rotations"]) == (4, 2)
    assert summary["presented_twice"] == [
        digest(claimed.refresh_token),
        digest(repeated.refresh_token),
    ]
    assert summary["claimed_twice"] == [digest(claimed.refresh_token)]
    assert summary["outcomes"] == {"rotated": 2, "denied": 1, "error": 1}
    assert summary["answers"] == {"sent": 4}


async def test_the_ledger_can_be_read_for_one_user_and_cleared(app: AppDriver) -> None:
    """A user's presentations alone can be read; after clearing, numbering goes on."""
    ten, seven = await app.connect("mikomo_10"), await app.connect("mikomo_7")
    await app.refresh(ten.refresh_token)
    await app.refresh(seven.refresh_token)

    of_seven = (await app.send("GET", "/sandbox/ledger?user=mikomo_7")).json["entries"]
    await app.send("DELETE", "/sandbox/ledger")
    await app.refresh("never-issued")

    assert [each["user"] for each in of_seven] == ["mikomo_7"]
    assert [(each["seq"], each["user"]) for each in await app.entries()] == [(3, None)]


async def test_obtaining_is_no_presentation(app: AppDriver) -> None:
    """A code is no refresh token, and neither is a request without one."""
    await app.connect("mikomo_10")
    await app.refresh("")

    assert await app.entries() == []


async def test_no_token_is_told_anywhere(app: AppDriver, sandbox: Sandbox) -> None:
    """Ledger, grants, faults and reprs hold digests: no token, code or secret can be read off."""
    pair = await app.connect("mikomo_10")
    await app.refresh(pair.refresh_token)
    paths = ("/sandbox/ledger", "/sandbox/grants", "/sandbox/faults", "/sandbox/settings", "/")

    told = b"".join([(await app.send("GET", path)).body for path in paths]).decode()
    told += repr(sandbox.settings) + repr(list(sandbox.grants)) + repr(list(sandbox.ledger))

    assert pair.refresh_token not in told
    assert "sandbox-secret" not in told
    assert "Chl" not in told
