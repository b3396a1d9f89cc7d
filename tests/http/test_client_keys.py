from __future__ import annotations

from dataclasses import replace

import pytest

from sidecar.domain.secret import Secret
from sidecar.http.access import AccessKeys
from sidecar.http.proxy import ProxyOptions
from tests.support.proxy_rig import running_proxy
from tests.support.raw_http import answer, request

BILLING = "b" * 32
REPORTS = "r" * 32


def with_keys(options: ProxyOptions) -> ProxyOptions:
    return replace(options, client_keys={"billing": Secret(BILLING), "reports": Secret(REPORTS)})


@pytest.mark.parametrize(
    ("header", "user"),
    [
        (b"Sidecar-Key: " + REPORTS.encode(), b"u-1"),
        (b"Authorization: Bearer key:" + REPORTS.encode() + b":user:u-1", None),
    ],
)
async def test_a_known_client_passes_and_is_named(header: bytes, user: bytes | None) -> None:
    """The key's name is told, and the key itself stops here."""
    async with running_proxy(answer(), options=with_keys) as rig, rig.client() as client:
        got = await client.ask(request(header, user=user))

    sent = rig.upstream.requests[0].head
    assert (got.status, rig.completed[0].client) == (200, "reports")
    assert not any(REPORTS.encode() in value for _, value in sent.headers)


@pytest.mark.parametrize(
    "headers",
    [
        (),
        (b"Sidecar-Key: wrong",),
        (b"Sidecar-Key: ",),
        (b"Sidecar-Key: \xff\xfe",),
        (b"Authorization: Bearer key:wrong:user:u-1",),
    ],
)
async def test_an_unknown_client_is_refused(headers: tuple[bytes, ...]) -> None:
    """Without a known key nothing is looked up; the answer carries a challenge."""
    async with running_proxy(answer(), options=with_keys) as rig, rig.client() as client:
        got = await client.ask(request(*headers))

    assert (got.status, got.value(b"sidecar-error")) == (401, b"client_key_invalid")
    assert got.value(b"www-authenticate").startswith(b"Sidecar-Key ")
    assert (rig.source.keys, rig.completed[0].client) == ([], "")


async def test_two_keys_that_disagree_are_refused() -> None:
    """A request cannot be two clients."""
    headers = (
        b"Sidecar-Key: " + BILLING.encode(),
        b"Authorization: Bearer key:" + REPORTS.encode() + b":user:u-1",
    )
    async with running_proxy(answer(), options=with_keys) as rig, rig.client() as client:
        got = await client.ask(request(*headers))

    assert (got.status, got.value(b"sidecar-error")) == (400, b"request_invalid")
    assert rig.upstream.requests == []


def test_every_key_is_compared_whatever_matches() -> None:
    """A key is told by its whole value; prefixes and nothing at all are no key."""
    keys = AccessKeys(keys={"a": Secret(BILLING), "b": Secret(REPORTS)})

    assert keys.name_of(Secret(BILLING)) == "a"
    assert keys.name_of(Secret(REPORTS)) == "b"
    assert keys.name_of(Secret(BILLING[:-1])) is None
    assert keys.name_of(Secret("")) is None
    assert keys.name_of(None) is None
