"""What a start should know of the Redis it found: whether it forgets, evicts or hides things.

Asks every primary for INFO, so that it works where CONFIG is forbidden, and with ACL DRYRUN what
the server will do to its append-only file when it reads it. Decides nothing: whoever starts the
sidecar reads the advice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from redis.exceptions import ResponseError

from sidecar.adapters.redis_server import RedisServer

FIRST_VERSION: Final = (7, 0)
FULL_FRACTION: Final = 0.9
FIRST_VALKEY_THAT_OBEYS_ITS_FILE: Final = (9, 1, 2)
"""From here on a transaction in the append-only file is carried out whatever `default` may do."""

WRITTEN_BY_SCRIPTS: Final = (
    ("HSET", "name", "1"),
    ("HSETNX", "name", "1"),
    ("HDEL", "name"),
    ("DEL",),
    ("ZADD", "1", "name"),
    ("ZREMRANGEBYSCORE", "0", "0"),
)
"""Each command with which a script writes; the key goes after its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreAdvice:
    """Something in the store that should be otherwise.

    Attributes:
        subject: The setting or ability, as Redis calls it.
        advice: What it means and what to do.
        is_fatal: The sidecar cannot work with it.
    """

    subject: str
    advice: str
    is_fatal: bool = False


async def inspect(
    servers: Sequence[RedisServer], *, is_cluster: bool, scratch: str
) -> tuple[StoreAdvice, ...]:
    """Return what is wrong with the primaries of a store; nothing is wrong if empty.

    What is wrong with several of them in the same way is told once.

    Args:
        servers: The primaries.
        is_cluster: Whether they are meant to be a Cluster.
        scratch: A key below the prefix; it is named and not touched.

    Raises:
        RedisError: One does not answer.
        OSError: One cannot be reached.
    """
    found: dict[StoreAdvice, None] = {}
    for server in servers:
        found |= dict.fromkeys(await _inspect(server, is_cluster=is_cluster, scratch=scratch))
    return tuple(found)


async def _inspect(
    server: RedisServer, *, is_cluster: bool, scratch: str
) -> tuple[StoreAdvice, ...]:
    try:
        info: Mapping[str, Any] = await server.ask("INFO")
    except ResponseError:
        advice = "INFO is forbidden; allow it, since scripts tell a restart of the store by it"
        return (StoreAdvice(subject="INFO", advice=advice, is_fatal=True),)
    loading = await _loading(server, scratch) if _drops_transactions(info) else ()
    return (*_fatal(info, is_cluster=is_cluster), *_risky(info), *loading)


def _drops_transactions(info: Mapping[str, Any]) -> bool:
    """Whether the server, when it starts, drops of its file what `default` may not do."""
    if info.get("aof_enabled") == 0:
        return False
    valkey = str(info.get("valkey_version", "0")).split(".")
    return tuple(int(part) for part in valkey if part.isdigit()) < FIRST_VALKEY_THAT_OBEYS_ITS_FILE


async def _loading(server: RedisServer, scratch: str) -> tuple[StoreAdvice, ...]:
    """Return what is wrong with the user as whom the append-only file is read.

    A script's writes stand there as a transaction, which is checked against this user.
    """
    answers = await server.ask_each(
        [("ACL", "DRYRUN", "default", name, scratch, *rest) for name, *rest in WRITTEN_BY_SCRIPTS]
    )
    if any(isinstance(answer, Exception) for answer in answers):
        advice = (
            "it cannot be seen whether a restart will drop writes, which it does where this user "
            "has no rights: compare yours with `config/redis/users.acl`, and allow the sidecar's "
            "user `+acl|dryrun`"
        )
        return (StoreAdvice(subject="user default", advice=advice),)
    refused = [
        name
        for (name, *_), answer in zip(WRITTEN_BY_SCRIPTS, answers, strict=True)
        if answer != b"OK"
    ]
    if not refused:
        return ()
    advice = (
        f"it may not {', '.join(refused)}, and as this user the server reads its "
        "append-only file: the next restart drops what sidecars wrote. Before it, let the line in "
        "your aclfile be `user default off resetpass ~* &* +@all`: all rights, and no login"
    )
    return (StoreAdvice(subject="user default", advice=advice),)


def _fatal(info: Mapping[str, Any], *, is_cluster: bool) -> list[StoreAdvice]:
    found: list[StoreAdvice] = []

    def note(subject: str, advice: str) -> None:
        found.append(StoreAdvice(subject=subject, advice=advice, is_fatal=True))

    version = str(info.get("redis_version", "0.0"))
    major, minor = (int(part) for part in version.split(".")[:2])
    if (major, minor) < FIRST_VERSION:
        note("redis_version", f"{version} cannot run scripts with flags; use 7.0 or later")
    if not info.get("run_id"):
        note("run_id", "it is hidden, so a restart that lost writes cannot be told")
    if info.get("role") == "slave":
        note("role", "this is a replica; connect to the primary")
    if not is_cluster and info.get("cluster_enabled") == 1:
        note("cluster_enabled", "this is a cluster; give its address as redis+cluster://")
    return found


def _risky(info: Mapping[str, Any]) -> list[StoreAdvice]:
    found: list[StoreAdvice] = []

    def note(subject: str, advice: str) -> None:
        found.append(StoreAdvice(subject=subject, advice=advice))

    policy = str(info.get("maxmemory_policy", "noeviction"))
    if policy != "noeviction":
        note("maxmemory-policy", f"{policy} throws records away; set noeviction")
    if info.get("aof_enabled") == 0:
        note("appendonly", "without it a restart forgets records; set appendonly yes")
    for name in ("aof_last_write_status", "aof_last_bgrewrite_status", "rdb_last_bgsave_status"):
        if info.get(name, "ok") != "ok":
            note(name, "the disk took no copy the last time; make room, or mend its rights")
    used, most = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    if most and used > FULL_FRACTION * most:
        note("maxmemory", "it is nearly full, and a full store takes no claim; give it more")
    clients, most = int(info.get("connected_clients", 0)), int(info.get("maxclients", 0))
    if most and clients > FULL_FRACTION * most:
        note(
            "maxclients",
            f"{clients} of {most} connections are taken, and the next sidecar may get none; find "
            "who holds them, or give it more",
        )
    replicas = int(info.get("connected_slaves", 0))
    if replicas and "min_slaves_good_slaves" not in info:
        note(
            "min-replicas-to-write",
            "a cut-off primary accepts writes that a failover forgets; set 1, with "
            "min-replicas-max-lag 2",
        )
    return found
