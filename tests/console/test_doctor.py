"""`akoya-sidecar doctor` on a real Redis and the sandbox: what is planted is found, with advice."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import pytest
import trustme

from sidecar.adapters import spool_disk
from sidecar.adapters.file_spool import FileSpool
from sidecar.adapters.redis_inspection import _risky  # pyright: ignore[reportPrivateUsage]
from sidecar.adapters.spool_disk import NEEDED_BYTES, SpoolPlace
from sidecar.adapters.system import SystemClock, SystemEntropy
from sidecar.console import doctor, store_checks
from sidecar.console.local_checks import judge_spool
from sidecar.domain.record import GrantId
from sidecar.ports import Clock
from sidecar.sandbox import Sandbox, SandboxSettings
from tests.support.environment import CANARY, encoded_key, good_environment
from tests.support.records import live, pair
from tests.support.redis_server import RedisServer, free_port
from tests.support.stores import have_patience, store_at
from tests.support.wait import until

SECRET: Final = f"{CANARY}-secret"
MOUNT: Final = "36 35 98:0 / / rw,noatime master:1 - {kind} /dev/root rw\n"
Capsys = pytest.CaptureFixture[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a doctor said."""

    code: int
    document: dict[str, Any]
    troubles: dict[tuple[str, str], dict[str, str]] = field(init=False)

    def __post_init__(self) -> None:
        found = {
            (each["area"], each["subject"]): each
            for each in self.document["findings"]
            if each["verdict"] in ("risky", "wrong")
        }
        object.__setattr__(self, "troubles", found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ward:
    """A deployment in which nothing is wrong, until a test plants something."""

    redis: RedisServer
    sandbox: Sandbox
    directory: Path
    capsys: Capsys
    environ: dict[str, str]

    async def examine(self, *, clock: Clock | None = None) -> Seen:
        """Have the doctor look, and read what it tells programs."""
        code, printed = await self.examine_as_a_person("--json", clock=clock)
        return Seen(code=code, document=json.loads(printed))

    async def examine_as_a_person(self, *words: str, clock: Clock | None = None) -> tuple[int, str]:
        """Have the doctor look; return its exit code and what it prints."""
        self.capsys.readouterr()
        code = await asyncio.to_thread(doctor.main, words, self.environ, clock=clock)
        return code, self.capsys.readouterr().out

    def set(self, **variables: str) -> None:
        """Change variables, under their short names."""
        self.environ.update({f"SIDECAR_{name}": value for name, value in variables.items()})

    def configure(self, name: str, value: str) -> None:
        """Change a setting of Redis."""
        with self.redis.client() as client:
            client.config_set(name, value)


@pytest.fixture
async def ward(
    redis_server: RedisServer,
    tmp_path: Path,
    capsys: Capsys,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncGenerator[Ward]:
    have_patience(monkeypatch)
    monkeypatch.setattr(store_checks, "SLOW_S", 2.0)
    monkeypatch.setattr(spool_disk, "MOUNTS", tmp_path / "mounts")
    (tmp_path / "mounts").write_text(MOUNT.format(kind="ext4"))
    settings = SandboxSettings(key_bits=1024, client_id="app-1", client_secret=SECRET)
    async with Sandbox(settings) as sandbox:
        environ = good_environment(
            REDIS_URL=redis_server.url,
            IDP_URL=sandbox.url,
            PRODUCTS_URL=sandbox.url,
            SPOOL_DIR=str(tmp_path / "spool"),
        )
        yield Ward(
            redis=redis_server,
            sandbox=sandbox,
            directory=tmp_path,
            capsys=capsys,
            environ=environ,
        )


async def test_where_nothing_is_wrong_everything_is_called_good(ward: Ward) -> None:
    """Exit code 0, a finding for each thing that was looked at, and no advice."""
    seen = await ward.examine()

    verdicts = {each["verdict"] for each in seen.document["findings"]}
    subjects = [(each["area"], each["subject"]) for each in seen.document["findings"]]
    assert (seen.code, seen.document["good"], verdicts) == (0, True, {"good"})
    assert subjects == [
        ("configuration", "environment"),
        ("spool", "SIDECAR_SPOOL_DIR"),
        ("spool", "filesystem"),
        ("spool", "room"),
        ("spool", "users"),
        ("store", "SIDECAR_REDIS_URL"),
        ("store", "clock"),
        ("store", "latency"),
        ("store", "settings"),
        ("store", "rights"),
        ("keys", "SIDECAR_ENCRYPTION_KEYS"),
        ("akoya", "SIDECAR_IDP_URL"),
        ("akoya", "clock"),
        ("akoya", "SIDECAR_AKOYA_CLIENT_SECRET"),
        ("akoya", "SIDECAR_REFRESH_AUTH"),
        ("data", "SIDECAR_PRODUCTS_URL"),
    ]


async def test_a_person_reads_a_line_each_and_below_it_what_to_do(ward: Ward) -> None:
    """What is wrong stands beside what is good, with its advice in the next line."""
    wrong_secret(ward)

    code, printed = await ward.examine_as_a_person()

    lines = printed.splitlines()
    at = lines.index(
        "wrong   akoya          SIDECAR_AKOYA_CLIENT_SECRET: the trial of `obtain` ended with "
        "client_credentials_invalid"
    )
    assert code == 1
    assert lines[at + 1].startswith(" " * 23 + "-> Akoya refused the client id or secret;")
    assert [line for line in lines if not line.startswith("good ")] == lines[at : at + 2]
    assert CANARY not in printed


async def test_looking_changes_nothing_and_spends_nothing(ward: Ward) -> None:
    """No key is left or agreed on, no directory made, and no token of anybody presented."""
    await ward.examine()

    with ward.redis.client() as client:
        assert client.dbsize() == 0
    assert not (ward.directory / "spool").exists()
    assert {entry.outcome for entry in ward.sandbox.ledger} == {"denied"}
    assert {entry.user for entry in ward.sandbox.ledger} == {None}


Plant = Callable[[Ward], None]


def unknown_variable(ward: Ward) -> None:
    ward.set(UPSTRAEM_TIMEOUT_S="3")


def no_redis(ward: Ward) -> None:
    ward.set(REDIS_URL=f"redis://:{CANARY}@127.0.0.1:{free_port()}/0")


def wrong_password(ward: Ward) -> None:
    ward.set(REDIS_URL=ward.redis.url.replace("redis://", f"redis://app:{CANARY}@"))


def evicting(ward: Ward) -> None:
    ward.configure("maxmemory-policy", "allkeys-lru")


def forgetful(ward: Ward) -> None:
    ward.configure("appendonly", "no")


def without_rights(ward: Ward) -> None:
    rule = ("on", f">{CANARY}", "resetkeys", "~*", "resetchannels", "&*", "+@all")
    with ward.redis.client() as client:
        client.execute_command("ACL", "SETUSER", "app", *rule, "-publish", "-zadd", "-xadd")
    ward.set(REDIS_URL=ward.redis.url.replace("redis://", f"redis://app:{CANARY}@"))


def without_scripts(ward: Ward) -> None:
    rule = ("on", f">{CANARY}", "resetkeys", "~sidecar:*", "&sidecar:*", "+@all")
    with ward.redis.client() as client:
        client.execute_command("ACL", "SETUSER", "app", *rule, "-eval", "-evalsha")
    ward.set(REDIS_URL=ward.redis.url.replace("redis://", f"redis://app:{CANARY}@"))


def other_prefix(ward: Ward) -> None:
    rule = ("on", f">{CANARY}", "resetkeys", "~other:*", "&sidecar:*", "+@all")
    with ward.redis.client() as client:
        client.execute_command("ACL", "SETUSER", "app", *rule)
    ward.set(REDIS_URL=ward.redis.url.replace("redis://", f"redis://app:{CANARY}@"))


def wrong_secret(ward: Ward) -> None:
    ward.set(AKOYA_CLIENT_SECRET=f"{CANARY}-another")


def no_idp(ward: Ward) -> None:
    ward.set(IDP_URL=f"http://127.0.0.1:{free_port()}")


def no_token_service(ward: Ward) -> None:
    ward.set(IDP_URL=f"{ward.sandbox.url}/nothing")


def other_revocation(ward: Ward) -> None:
    ward.set(REVOKE_PATH="/oauth/revoke")


def wrong_place(ward: Ward) -> None:
    ward.set(REFRESH_AUTH="basic")


def no_data(ward: Ward) -> None:
    ward.set(PRODUCTS_URL=f"http://127.0.0.1:{free_port()}")


def spool_in_memory(ward: Ward) -> None:
    (ward.directory / "mounts").write_text(MOUNT.format(kind="tmpfs"))


def spool_in_the_container(ward: Ward) -> None:
    (ward.directory / "mounts").write_text(MOUNT.format(kind="overlay"))


def spool_on_a_share(ward: Ward) -> None:
    (ward.directory / "mounts").write_text(MOUNT.format(kind="nfs4"))


def spool_without_directory(ward: Ward) -> None:
    (ward.directory / "file").write_text("in the way")
    ward.set(SPOOL_DIR=str(ward.directory / "file" / "spool"))


def wrong_authority(ward: Ward) -> None:
    (ward.directory / "ca.pem").write_text(CANARY)
    ward.set(CA_FILE=str(ward.directory / "ca.pem"))


def wrong_certificate(ward: Ward) -> None:
    for name in ("one", "other"):
        made = trustme.CA().issue_cert("localhost")
        made.private_key_and_cert_chain_pem.write_to_path(str(ward.directory / f"{name}.pem"))
        made.private_key_pem.write_to_path(str(ward.directory / f"{name}.key"))
    ward.set(
        CONTROL_TLS_CERT=str(ward.directory / "one.pem"),
        CONTROL_TLS_KEY=str(ward.directory / "other.key"),
    )


def open_proxy(ward: Ward) -> None:
    ward.set(PROXY_LISTEN="0.0.0.0:8080", ALLOW_UNAUTHENTICATED="true")


def plain_control(ward: Ward) -> None:
    ward.set(CONTROL_LISTEN="0.0.0.0:8081", ALLOW_PLAINTEXT_CONTROL="true")


@pytest.mark.parametrize(
    ("plant", "area", "subject", "verdict", "advice"),
    [
        (unknown_variable, "configuration", "SIDECAR_UPSTRAEM_TIMEOUT_S", "wrong", "reference"),
        (wrong_authority, "configuration", "SIDECAR_CA_FILE", "wrong", "in PEM"),
        (wrong_certificate, "configuration", "SIDECAR_CONTROL_TLS_CERT", "wrong", "private key"),
        (open_proxy, "configuration", "SIDECAR_ALLOW_UNAUTHENTICATED", "risky", "CLIENT_KEYS"),
        (plain_control, "configuration", "SIDECAR_ALLOW_PLAINTEXT_CONTROL", "risky", "TLS_CERT"),
        (spool_in_memory, "spool", "filesystem", "wrong", "mount a volume"),
        (spool_in_the_container, "spool", "filesystem", "risky", "outlives the container"),
        (spool_on_a_share, "spool", "filesystem", "risky", "disk of this machine"),
        (spool_without_directory, "spool", "SIDECAR_SPOOL_DIR", "wrong", "may write"),
        (no_redis, "store", "SIDECAR_REDIS_URL", "wrong", "host, port, user and password"),
        (wrong_password, "store", "SIDECAR_REDIS_URL", "wrong", "host, port, user and password"),
        (evicting, "store", "maxmemory-policy", "risky", "set noeviction"),
        (forgetful, "store", "appendonly", "risky", "set appendonly yes"),
        (without_rights, "store", "rights", "wrong", "config/redis/users.acl"),
        (without_scripts, "store", "rights", "wrong", "config/redis/users.acl"),
        (other_prefix, "store", "rights", "wrong", "begin with sidecar:"),
        (no_idp, "akoya", "SIDECAR_IDP_URL", "wrong", "SIDECAR_EGRESS_PROXY"),
        (no_token_service, "akoya", "SIDECAR_AKOYA_CLIENT_SECRET", "wrong", "SIDECAR_IDP_URL"),
        (wrong_secret, "akoya", "SIDECAR_AKOYA_CLIENT_SECRET", "wrong", "CLIENT_ID, its secret"),
        (wrong_place, "akoya", "SIDECAR_REFRESH_AUTH", "wrong", "SIDECAR_REFRESH_AUTH=body"),
        (other_revocation, "akoya", "revocation_endpoint", "risky", "SIDECAR_REVOKE_PATH"),
        (no_data, "data", "SIDECAR_PRODUCTS_URL", "wrong", "SIDECAR_EGRESS_PROXY"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
async def test_a_planted_fault_is_found_with_what_to_do(  # noqa: PLR0913 - the columns of a table
    ward: Ward, plant: Plant, *, area: str, subject: str, verdict: str, advice: str
) -> None:
    """The fault and nothing else is called a trouble, with advice; exit code 1; no secret shown."""
    plant(ward)

    seen = await ward.examine()

    assert set(seen.troubles) == {(area, subject)}
    found = seen.troubles[area, subject]
    assert found["verdict"] == verdict
    assert advice in found["advice"]
    assert (seen.code, seen.document["good"]) == (1, False)
    assert CANARY not in json.dumps(seen.document)


async def test_the_commands_that_are_forbidden_are_named(ward: Ward) -> None:
    """An operator reads which rights to add, and need not guess."""
    without_rights(ward)

    seen = await ward.examine()

    (found,) = seen.troubles.values()
    assert found["found"] == "this user may not: PUBLISH, ZADD, XADD"


async def test_the_recommended_rights_are_enough(ward: Ward) -> None:
    """A user of `config/redis/users.acl` is not told to ask for more."""
    users = Path(__file__).parents[2] / "config/redis/users.acl"
    (rule,) = [line for line in users.read_text().splitlines() if line.startswith("user sidecar ")]
    words = rule.removeprefix("user sidecar ").replace("change-me", CANARY).split()
    with ward.redis.client() as client:
        client.execute_command("ACL", "SETUSER", "sidecar", *words)
    ward.set(REDIS_URL=ward.redis.url.replace("redis://", f"redis://sidecar:{CANARY}@"))

    assert (await ward.examine()).troubles == {}


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


class _AheadClock:
    """This machine's clock, an hour ahead."""

    def __init__(self) -> None:
        self._clock = SystemClock()

    def now_s(self) -> float:
        return self._clock.now_s() + 3600

    def elapsed_s(self) -> float:
        return self._clock.elapsed_s()


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
