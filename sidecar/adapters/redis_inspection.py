"""What a start should know of the Redis it found: whether it forgets, evicts or hides things.

Asks nothing but INFO, so that it works where CONFIG is forbidden. Decides nothing: whoever starts
the sidecar reads the advice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from redis.exceptions import ResponseError

FIRST_VERSION: Final = (7, 0)


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


async def inspect(client: Any) -> tuple[StoreAdvice, ...]:
    """Return what is wrong with the server behind a client; nothing is wrong if empty.

    Args:
        client: A ``redis.asyncio.Redis``, whose types are partly unknown.

    Raises:
        RedisError: It does not answer.
        OSError: It cannot be reached.
    """
    try:
        info: Mapping[str, Any] = await client.info()
    except ResponseError:
        advice = "INFO is forbidden; allow it, since scripts tell a restart of the store by it"
        return (StoreAdvice(subject="INFO", advice=advice, is_fatal=True),)
    return tuple(_fatal(info)) + tuple(_risky(info))


def _fatal(info: Mapping[str, Any]) -> list[StoreAdvice]:
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
    if info.get("cluster_enabled") == 1:
        note("cluster_enabled", "a cluster is not supported yet")
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
    replicas = int(info.get("connected_slaves", 0))
    if replicas and "min_slaves_good_slaves" not in info:
        note(
            "min-replicas-to-write",
            "a cut-off primary accepts writes that a failover forgets; set 1, with "
            "min-replicas-max-lag 2",
        )
    return found
