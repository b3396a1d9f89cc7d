"""Goes through the keys of all servers, page by page, and misses none that stays.

A cursor of SCAN means nothing to another process: each has its own order of keys. So the cursor
here also says of which servers it spoke and in which life of the one that is read. If either is
another now (a restart, a failover, slots that moved), the scan begins anew, and what was seen comes
again. Knows neither records nor the names of keys.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha1
from typing import Any, Final

from sidecar.adapters.redis_server import RedisServer
from sidecar.adapters.redis_topology import Topology

FORM: Final = re.compile(r"([0-9a-f]{12})\.(\d{1,4})\.([0-9a-f]{12}|)\.(\d{1,20})")

LARGEST_CURSOR: Final = 2**64 - 1

Found = list[tuple[bytes, dict[bytes, bytes]]]
"""Keys and the hashes that lie there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a scan stands.

    Attributes:
        shape: A short sum of all servers and their shares.
        index: Which of them is read.
        life: A short name of its process; empty at its first page.
        cursor: SCAN's own.
    """

    shape: str
    index: int = 0
    life: str = ""
    cursor: int = 0

    def __str__(self) -> str:
        return f"{self.shape}.{self.index}.{self.life}.{self.cursor}"


async def page_of_hashes(
    topology: Topology, cursor: str, *, pattern: str, limit: int
) -> tuple[str, Found]:
    """Return about `limit` hashes, perhaps none, and the next cursor; ``""`` starts and ends.

    Raises:
        RedisError: A server does not answer, or a key holds something else than a hash.
        OSError: A server cannot be reached.
    """
    place = _place_of(cursor) or Place(shape="")
    servers = await topology.primaries()
    asked = servers[min(place.index, len(servers) - 1)]
    servers = await topology.primaries(seen_by=asked)
    shape = _sum_of(topology.shape)
    if place.shape != shape or place.index >= len(servers):
        place = Place(shape=shape)
    life = await _life_of(servers[place.index])
    if place.life not in {"", life}:
        place, life = Place(shape=shape), await _life_of(servers[0])
    server = servers[place.index]
    following, keys = await server.ask("SCAN", place.cursor, "MATCH", pattern, "COUNT", limit)
    found = await _hashes_at(keys, topology)
    if following:
        return str(replace(place, life=life, cursor=int(following))), found
    if place.index + 1 < len(servers):
        return str(Place(shape=shape, index=place.index + 1)), found
    return "", found


def _place_of(cursor: str) -> Place | None:
    form = FORM.fullmatch(cursor)
    if form is None:
        return None
    shape, index, life, inner = form.groups()
    if int(inner) > LARGEST_CURSOR:  # the server would refuse it
        return None
    return Place(shape=shape, index=int(index), life=life, cursor=int(inner))


def _sum_of(*names: str) -> str:
    return sha1("\n".join(names).encode(), usedforsecurity=False).hexdigest()[:12]


async def _life_of(server: RedisServer) -> str:
    info: Mapping[str, Any] = await server.ask("INFO", "server")
    return _sum_of(str(info.get("run_id")))


async def _hashes_at(keys: Sequence[bytes], topology: Topology) -> Found:
    """Return what lies there now; a key that went while it was listed is read where it is."""
    answers = await topology.ask_each([(key.decode(), ("HGETALL", key)) for key in keys])
    found: Found = []
    for key, answer in zip(keys, answers, strict=True):
        fields: Any = answer
        if isinstance(answer, Exception):
            raise answer
        if fields:
            found.append((key, fields))
    return found


def escaped(text: str) -> str:
    """Return a pattern of a scan that matches this very text."""
    return re.sub(r"([*?\[\]^\\-])", r"\\\1", text)
