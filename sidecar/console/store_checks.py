"""What `doctor` asks the store: whether it answers, how soon, what it keeps, what it allows.

And of the keys: whether they are the fleet's, and whether they open what lies there. Nothing is
changed; a key of its own for trying rights is gone afterwards.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from statistics import median
from typing import Final

from sidecar.adapters.redis_store import RedisTokenStore
from sidecar.app.store_terms import advice_on_key, variable_of_key
from sidecar.console.findings import TROUBLES, Area, Finding, Verdict
from sidecar.domain.store_trouble import TROUBLE_HINTS, StoreTrouble
from sidecar.ports import Clock, Entropy, StoreUnavailable
from sidecar.service.fleet_keys import FleetKeys
from sidecar.service.grant_views import GrantViewer
from sidecar.service.vault import Vault
from sidecar.settings import Settings

PROBES: Final = 10
SLOW_S: Final = 0.025
"""A claim asks the store five times before its request leaves."""
SKEW_S: Final = 5.0
"""Clocks of which one is this far off make logs that lie and tokens that end early."""
LOOKED_AT: Final = 200

SYNCHRONISE: Final = "synchronise the clocks of both machines (NTP, chrony)"


async def check_store(
    store: RedisTokenStore, *, settings: Settings, vault: Vault, clock: Clock, entropy: Entropy
) -> AsyncIterator[Finding]:
    """Yield what is found; only that nobody answers if nobody does."""
    try:
        pulse = await store.probe()
    except StoreUnavailable as error:
        for finding in await _in_the_way(store, settings, entropy) or (_away(error.cause),):
            yield finding
        return
    yield Finding(
        area=Area.STORE, subject="SIDECAR_REDIS_URL", verdict=Verdict.GOOD, found="it answers"
    )
    yield skew(Area.STORE, "clock", ahead_s=clock.now_s() - pulse.now_ms / 1000, whose="the store")
    try:
        yield await _latency(store, clock)
        for finding in await _settings_of(store):
            yield finding
        rights = await _rights(store, settings, entropy)
        yield rights
        if rights.verdict is Verdict.GOOD:
            async for finding in _keys(store, vault):
                yield finding
    except StoreUnavailable as error:
        yield Finding(
            area=Area.STORE,
            subject="answers",
            verdict=Verdict.RISKY,
            found=f"it answered, and then did not: {error.cause.value}",
            advice=f"{TROUBLE_HINTS[error.cause]} Then run doctor again",
        )


def skew(area: Area, subject: str, *, ahead_s: float, whose: str) -> Finding:
    """Return what is thought of a clock that this machine's is `ahead_s` ahead of."""
    if abs(ahead_s) <= SKEW_S:
        return Finding(
            area=area,
            subject=subject,
            verdict=Verdict.GOOD,
            found=f"within {SKEW_S:.0f} s of this machine's",
        )
    direction = "behind" if ahead_s > 0 else "ahead of"
    return Finding(
        area=area,
        subject=subject,
        verdict=Verdict.RISKY,
        found=f"that of {whose} is {abs(ahead_s):.0f} s {direction} this machine's",
        advice=SYNCHRONISE,
    )


async def _in_the_way(
    store: RedisTokenStore, settings: Settings, entropy: Entropy
) -> tuple[Finding, ...]:
    """Return why a store that answers does not work, or nothing if it does not answer either."""
    try:
        found = (*await _settings_of(store), await _rights(store, settings, entropy))
    except StoreUnavailable:
        return ()
    return tuple(finding for finding in found if finding.verdict in TROUBLES)


def _away(cause: StoreTrouble) -> Finding:
    return Finding(
        area=Area.STORE,
        subject="SIDECAR_REDIS_URL",
        verdict=Verdict.WRONG,
        found=f"no answer: {cause.value}",
        advice=TROUBLE_HINTS[cause],
    )


async def _latency(store: RedisTokenStore, clock: Clock) -> Finding:
    spans_s: list[float] = []
    for _ in range(PROBES):
        began_s = clock.elapsed_s()
        await store.probe()
        spans_s.append(clock.elapsed_s() - began_s)
    middle_s = median(spans_s)
    is_slow = middle_s > SLOW_S
    return Finding(
        area=Area.STORE,
        subject="latency",
        verdict=Verdict.RISKY if is_slow else Verdict.GOOD,
        found=f"{middle_s * 1000:.1f} ms in the middle of {PROBES} calls",
        advice="bring store and sidecar closer together: after 500 ms a call counts as failed"
        if is_slow
        else "",
    )


async def _settings_of(store: RedisTokenStore) -> tuple[Finding, ...]:
    advice = await store.inspect()
    if not advice:
        found = "it keeps what is written, evicts nothing and tells its incarnation"
        return (Finding(area=Area.STORE, subject="settings", verdict=Verdict.GOOD, found=found),)
    return tuple(
        Finding(
            area=Area.STORE,
            subject=item.subject,
            verdict=Verdict.WRONG if item.is_fatal else Verdict.RISKY,
            found="it is not as the sidecar needs it",
            advice=item.advice,
        )
        for item in advice
    )


async def _rights(store: RedisTokenStore, settings: Settings, entropy: Entropy) -> Finding:
    missing = await store.missing_rights(entropy.new_id())
    if not missing:
        return Finding(
            area=Area.STORE, subject="rights", verdict=Verdict.GOOD, found="all that are needed"
        )
    return Finding(
        area=Area.STORE,
        subject="rights",
        verdict=Verdict.WRONG,
        found=f"this user may not: {', '.join(missing)}",
        advice="give it the rights of `config/redis/users.acl`, for keys and channels that begin "
        f"with {settings.redis_prefix}:",
    )


async def _keys(store: RedisTokenStore, vault: Vault) -> AsyncIterator[Finding]:
    foreign = await FleetKeys(store=store, vault=vault).seem_foreign()
    for name in foreign:
        yield Finding(
            area=Area.KEYS,
            subject=variable_of_key(name),
            verdict=Verdict.WRONG,
            found="it is not the fleet's",
            advice=advice_on_key(name),
        )
    if foreign:
        return
    viewer = GrantViewer(vault=vault)
    _, page = await store.scan("", LOOKED_AT)
    views = [viewer.view(grant, record) for grant, record in page]
    sealed = sum(view.key is None or not view.is_readable for view in views)
    yield Finding(
        area=Area.KEYS,
        subject="SIDECAR_ENCRYPTION_KEYS",
        verdict=Verdict.WRONG if sealed else Verdict.GOOD,
        found=f"they do not open {sealed} of {len(views)} grants"
        if sealed
        else f"the fleet's, and they open the {len(views)} grants that were tried",
        advice="add the key that these were sealed with behind the first, until a sweep has sealed "
        "everything anew"
        if sealed
        else "",
    )
