"""`akoya-sidecar doctor` on a real Redis and the sandbox finds what is planted, with advice."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

from tests.console.ward import MOUNT, Ward
from tests.support.environment import CANARY
from tests.support.redis_server import free_port


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


def dropping_transactions(ward: Ward) -> None:
    rule = ("on", f">{CANARY}", "resetkeys", "~*", "resetchannels", "&*", "+@all")
    with ward.redis.client() as client:
        client.execute_command("ACL", "SETUSER", "app", *rule)
        client.execute_command("ACL", "SETUSER", "default", "-@all")
    ward.set(REDIS_URL=ward.redis.url.replace("redis://", f"redis://app:{CANARY}@"))


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


def two_certificates(ward: Ward) -> None:
    for name in ("one", "other"):
        made = trustme.CA().issue_cert("localhost")
        made.private_key_and_cert_chain_pem.write_to_path(str(ward.directory / f"{name}.pem"))
        made.private_key_pem.write_to_path(str(ward.directory / f"{name}.key"))


def wrong_certificate(ward: Ward) -> None:
    two_certificates(ward)
    ward.set(
        CONTROL_TLS_CERT=str(ward.directory / "one.pem"),
        CONTROL_TLS_KEY=str(ward.directory / "other.key"),
    )


def wrong_certificate_of_pages(ward: Ward) -> None:
    two_certificates(ward)
    ward.set(
        CONNECT_LISTEN="127.0.0.1:8443",
        CONNECT_URL="https://connect.example.com",
        CONNECT_RETURN_TO="https://app.example.com/banks",
        CONNECT_TLS_CERT=str(ward.directory / "one.pem"),
        CONNECT_TLS_KEY=str(ward.directory / "other.key"),
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
        (
            wrong_certificate_of_pages,
            "configuration",
            "SIDECAR_CONNECT_TLS_CERT",
            "wrong",
            "SIDECAR_CONNECT_TLS_KEY the private key",
        ),
        (open_proxy, "configuration", "SIDECAR_ALLOW_UNAUTHENTICATED", "risky", "CLIENT_KEYS"),
        (plain_control, "configuration", "SIDECAR_ALLOW_PLAINTEXT_CONTROL", "risky", "TLS_CERT"),
        (spool_in_memory, "spool", "filesystem", "wrong", "mount a volume"),
        (spool_in_the_container, "spool", "filesystem", "risky", "outlives the container"),
        (spool_on_a_share, "spool", "filesystem", "risky", "disk of this machine"),
        (spool_without_directory, "spool", "SIDECAR_SPOOL_DIR", "wrong", "may write"),
        (no_redis, "store", "SIDECAR_REDIS_URL", "wrong", "Nothing listens"),
        (wrong_password, "store", "SIDECAR_REDIS_URL", "wrong", "refused user or password"),
        (evicting, "store", "maxmemory-policy", "risky", "set noeviction"),
        (forgetful, "store", "appendonly", "risky", "set appendonly yes"),
        (dropping_transactions, "store", "user default", "risky", "off resetpass ~* &* +@all"),
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
