"""What `akoya-sidecar doctor` says of replicas, keys, clocks, disks and neighbours."""

from __future__ import annotations

import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from sidecar.adapters.file_spool import FileSpool
from sidecar.adapters.redis_inspection import _risky  # pyright: ignore[reportPrivateUsage]
from sidecar.adapters.spool_disk import NEEDED_BYTES, SpoolPlace
from sidecar.adapters.system import SystemClock, SystemEntropy
from sidecar.console import store_checks
from sidecar.console.local_checks import judge_spool
from sidecar.domain.record import GrantId
from tests.console.ward import Ward
from tests.support.environment import encoded_key
from tests.support.idp_calls import answer_well
from tests.support.records import live, pair
from tests.support.redis_server import RedisServer
from tests.support.scripted_peer import ScriptedPeer
from tests.support.stores import store_at
from tests.support.tls import private_tls
from tests.support.wait import until


@contextmanager
def replica_of(primary: RedisServer) -> Generator[RedisServer]:
    with tempfile.TemporaryDirectory(prefix="sidecar-redis-") as directory:
        options = ("--replicaof", "127.0.0.1", str(primary.port))
        replica = RedisServer(Path(directory), options=options)
        replica.start()
        try:
            yield replica
        finally:
            replica.stop()


async def test_a_primary_that_would_not_notice_is_found(ward: Ward) -> None:
    """Replicas without `min-replicas-to-write` are told to have it."""
    ward.configure("repl-diskless-sync-delay", "0")
    with replica_of(ward.redis) as replica:
        with ward.redis.client() as client:
            await until(
                lambda: client.info("replication")["connected_slaves"] == 1,
                within_s=30,
                what="the replica to be in step",
            )
        seen = await ward.examine()
        ward.set(REDIS_URL=replica.url)
        of_replica = await ward.examine()

    assert ("store", "min-replicas-to-write") in seen.troubles
    assert of_replica.troubles["store", "role"]["advice"] == (
        "this is a replica; connect to the primary"
    )


async def test_keys_of_another_fleet_are_found(ward: Ward) -> None:
    """A hash key that the fleet does not have is named before a sidecar names grants with it."""
    store = store_at(ward.redis.url)
    await store.agree("hash", "of another key")
    await store.close()

    seen = await ward.examine()

    found = seen.troubles["keys", "SIDECAR_HASH_KEY"]
    assert (found["verdict"], found["found"]) == ("wrong", "it is not the fleet's")
    assert "take the fleet's" in found["advice"]


async def test_a_key_that_was_retired_too_early_is_found(ward: Ward) -> None:
    """Grants that no key of the ring opens are counted, with how to get them back."""
    store = store_at(ward.redis.url)
    await store.apply(GrantId("0a" * 16), live(pair(), None))
    await store.close()

    seen = await ward.examine()

    found = seen.troubles["keys", "SIDECAR_ENCRYPTION_KEYS"]
    assert found["found"] == "they do not open 1 of 1 grants"
    assert "behind the first" in found["advice"]


async def test_a_token_service_that_only_the_system_trusts_is_found(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`run` trusts SIDECAR_CA_FILE instead of the system's authorities, and so does doctor."""
    (ward.directory / "other").mkdir()
    tls, other = private_tls(ward.directory), private_tls(ward.directory / "other")
    monkeypatch.setenv("SSL_CERT_FILE", str(tls.ca_file))
    async with ScriptedPeer(answer_well, tls=tls.server) as peer:
        ward.set(IDP_URL=peer.url, CA_FILE=str(other.ca_file))
        seen = await ward.examine()

    found = seen.troubles["akoya", "SIDECAR_IDP_URL"]
    assert "SIDECAR_CA_FILE" in found["advice"]


class _AheadClock:
    """This machine's clock, an hour ahead."""

    def __init__(self) -> None:
        self._clock = SystemClock()

    def now_s(self) -> float:
        return self._clock.now_s() + 3600

    def elapsed_s(self) -> float:
        return self._clock.elapsed_s()


async def test_a_variable_that_opentelemetry_does_not_accept_is_found(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With traces on, a start would end with 78; with traces off it is nobody's business."""
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "-1")
    assert (await ward.examine()).code == 0

    ward.set(TRACES="otlp")

    seen = await ward.examine()
    assert set(seen.troubles) == {("configuration", "SIDECAR_TRACES")}
    assert "OTEL_" in seen.troubles["configuration", "SIDECAR_TRACES"]["found"]


async def test_a_clock_that_is_wrong_is_found(ward: Ward) -> None:
    """Against the store and against Akoya, and which of the two is late."""
    seen = await ward.examine(clock=_AheadClock())

    assert set(seen.troubles) == {("store", "clock"), ("akoya", "clock")}
    assert seen.troubles["store", "clock"]["found"].endswith("s behind this machine's")
    assert "NTP" in seen.troubles["akoya", "clock"]["advice"]


async def test_a_store_that_is_far_away_is_found(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that answers too slowly for a claim's five questions is told."""
    monkeypatch.setattr(store_checks, "SLOW_S", 0.0)

    seen = await ward.examine()

    assert "closer together" in seen.troubles["store", "latency"]["advice"]


async def test_two_sidecars_on_one_spool_are_found(ward: Ward) -> None:
    """One user of a directory is fine, left behind ones are told, and a second is too many."""
    root = ward.directory / "spool"
    made = [
        FileSpool.open(root, clock=SystemClock(), entropy=SystemEntropy(), segment_bytes=4096)
        for _ in range(2)
    ]

    seen = await ward.examine()
    made.pop().close()
    alone = await ward.examine()
    made.pop().close()

    assert seen.troubles["spool", "users"]["found"] == "2 running, 0 left behind"
    assert alone.troubles == {}
    (users,) = [each for each in alone.document["findings"] if each["subject"] == "users"]
    assert users["found"] == "1 running, 1 left behind"


PLACE: Final = SpoolPlace(is_there=True, trouble="", filesystem="ext4", free_bytes=NEEDED_BYTES)


@pytest.mark.parametrize(
    ("place", "subject", "verdict", "advice"),
    [
        (replace(PLACE, free_bytes=NEEDED_BYTES - 1), "room", "wrong", "make room for 8 MiB"),
        (replace(PLACE, foreign=1), "users", "wrong", "as one user"),
        (replace(PLACE, filesystem=""), "filesystem", "unseen", ""),
        (replace(PLACE, trouble="EROFS"), "SIDECAR_SPOOL_DIR", "wrong", "ends with 74"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_disk_that_will_fail_is_found(
    *, place: SpoolPlace, subject: str, verdict: str, advice: str
) -> None:
    """Too little room, another user's directory, a disk that takes nothing."""
    found = {each.subject: each for each in judge_spool(place)}

    assert found[subject].verdict == verdict
    assert advice in found[subject].advice
    assert {each.verdict for name, each in found.items() if name != subject} == {"good"}


@pytest.mark.parametrize(
    ("info", "subject"),
    [
        ({"aof_last_write_status": "err"}, "aof_last_write_status"),
        ({"aof_last_bgrewrite_status": "err"}, "aof_last_bgrewrite_status"),
        ({"rdb_last_bgsave_status": "err"}, "rdb_last_bgsave_status"),
        ({"used_memory": 91, "maxmemory": 100}, "maxmemory"),
    ],
)
def test_a_store_that_is_about_to_fail_is_found(info: dict[str, Any], subject: str) -> None:
    """A disk that took no copy and a memory that is nearly full are told, by a start as well."""
    assert [advice.subject for advice in _risky({"aof_enabled": 1, **info})] == [subject]
    assert _risky({"aof_enabled": 1, "used_memory": 89, "maxmemory": 100}) == []


async def test_another_ring_of_the_fleet_is_good(ward: Ward) -> None:
    """Rotation is no fault: a new first key beside the one that the fleet knows."""
    ward.set(ENCRYPTION_KEYS=f"k2:{encoded_key('f')},k1:{encoded_key('e')}")

    assert (await ward.examine()).troubles == {}
