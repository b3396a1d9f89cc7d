"""The store's files of `config/`, filled in as their comments ask, and what lies in such a store.

Only what a reader is told to replace is replaced: places, the name of a host, and the lines to
uncomment. Passwords stay as they are shipped.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, cast

from redis import Redis
from redis.exceptions import ResponseError

from sidecar.adapters.redis_store import RedisTokenStore
from sidecar.domain.commands import BeginRevocation, CoolDown, FinishRevocation, Invalidate
from sidecar.domain.failure import FailureReason
from sidecar.domain.record import GrantId, GrantState
from sidecar.domain.throttle import CountDecided, CountRefusal
from sidecar.domain.transitions import AnyCommand
from tests.support.records import DENIED, acquire, deny, live, mark, pair

ROOT: Final = Path(__file__).parent.parent.parent
SHIPPED: Final = ROOT / "config/redis"
PREFIX: Final = "sidecar"
LOGIN: Final = "sidecar:change-me@"
OPERATOR: Final = "operator:of-the-test@"

UNCOMMENTED: Final[tuple[str, ...]] = ("aclfile ", "masteruser ", "masterauth ", "sentinel auth-")
"""What the files ask the reader to uncomment where `users.acl` is used."""

WITH_REPLICAS: Final = ("min-replicas-",)

GRANTS: Final = {
    state: GrantId(f"{number:032x}") for number, state in enumerate((*GrantState, "cooled"))
}
"""A grant in each state, and one whose rejections are cooled down."""


def filled_in(
    directory: Path, *, primary_port: int = 0, has_users: bool = True, has_replicas: bool = False
) -> Path:
    """Write the files for a server whose data lies in `directory`; return where they are.

    Args:
        directory: Stands for `/data`, and for `/etc/redis` is a folder of it.
        primary_port: Where the Sentinels find the primary.
        has_users: Whether to uncomment what `users.acl` needs.
        has_replicas: Whether to uncomment what a primary with replicas needs, too.
    """
    settings = UNCOMMENTED if has_users else ()
    if has_replicas:
        settings += WITH_REPLICAS
    filled = directory / "files"
    filled.mkdir(exist_ok=True)
    for source in SHIPPED.iterdir():
        text = (
            source.read_text("utf-8")
            .replace("/etc/redis/sidecar.conf", str(filled / "redis.conf"))
            .replace("/etc/redis", str(filled))
            .replace("dir /data", f"dir {directory}")
            .replace("redis-1.example 6379", f"127.0.0.1 {primary_port}")
        )
        for setting in settings:
            text = text.replace(f"# {setting}", setting)
        (filled / source.name).write_text(text, "utf-8")
    return filled


def admit_operator(filled: Path) -> None:
    """Add a user who may do everything to the copy of `users.acl`, as an operator has one."""
    users = filled / "users.acl"
    users.write_text(f"{users.read_text('utf-8')}user operator on >of-the-test ~* &* +@all\n")


def as_operator(port: int) -> Any:
    """Return a client of that user."""
    connect = cast("Any", Redis).from_url  # whose types are partly unknown
    return connect(f"redis://{OPERATOR}127.0.0.1:{port}/0", protocol=2)


async def write_all(store: RedisTokenStore) -> None:
    """Leave a record in each state, and each other kind of key that the sidecar has."""
    met = await store.meet(min((await store.probe()).run_ids))
    start = pair().position
    lease: tuple[AnyCommand, ...] = (live(pair(), None), acquire(start, met=met))
    sent = (*lease, mark(start))
    ended = (live(pair(), None), BeginRevocation(consent=pair().consent))
    paths: dict[str, tuple[AnyCommand, ...]] = {
        GrantState.ACTIVE: (*sent, live(pair(1))),
        GrantState.LEASED: lease,
        GrantState.SENDING: sent,
        GrantState.IN_DOUBT: (*sent, deny(start)),
        GrantState.REAUTH_REQUIRED: (live(pair(), None), Invalidate(error=DENIED)),
        GrantState.REVOKING: ended,
        GrantState.REVOKED: (*ended, FinishRevocation(position=start)),
        "cooled": (
            *(*sent, live(pair(1))),
            CoolDown(
                consent_id=pair().consent.id, product="accounts", base_ms=60_000, limit_ms=600_000
            ),
        ),
    }
    for state, steps in paths.items():
        for step in steps:
            await store.apply(GRANTS[state], cast("Any", step))
    await _write_the_rest(store, GRANTS[GrantState.ACTIVE])


async def _write_the_rest(store: RedisTokenStore, grant: GrantId) -> None:
    await store.agree("hash", "proof")
    await store.schedule(3, {grant: 1_000, GRANTS[GrantState.LEASED]: 2_000})
    await store.take_due(3, 1, retake_ms=60_000)
    await store.note_uses(3, {grant: 1_000})
    await store.throttle(CountDecided(decided=5, denied=1))
    await store.throttle(
        CountRefusal(reason=FailureReason.CLIENT_CREDENTIALS_INVALID, canary_ms=1000)
    )
    await store.reserve_settlement(grant, window_ms=600_000, most=5)
    await store.tell(grant, GrantState.ACTIVE, "")
    await store.tell(grant, GrantState.IN_DOUBT, "refresh_token_rejected")
    await store.take_canary("sweep", 600_000)
    await store.deposit("ticket:1", b"\x00envelope\xff", ttl_ms=600_000)


async def states_in(store: RedisTokenStore) -> dict[str, str]:
    """Return the state of each grant that `write_all` left."""
    found = await store.read_each(list(GRANTS.values()))
    return {
        name: "missing" if (record := found[grant]) is None else record.state.value
        for name, grant in GRANTS.items()
    }


def all_of(url: str) -> Mapping[bytes, Any]:
    """Return every key of one server and what lies there, with the rights of the URL's user."""
    connect = cast("Any", Redis).from_url  # whose types are partly unknown
    with connect(url, protocol=2) as client:
        return {key: _value_of(client, key) for key in sorted(client.scan_iter(f"{PREFIX}:*"))}


def _value_of(client: Any, key: bytes) -> Any:
    for words in (
        ("HGETALL", key),
        ("ZRANGEBYSCORE", key, "-inf", "+inf", "WITHSCORES"),
        ("XRANGE", key, "-", "+"),
        ("GET", key),
    ):
        with suppress(ResponseError):  # it is of another type
            return client.execute_command(*words)
    raise AssertionError(f"{key!r} is of no type that the sidecar writes")


KINDS: Final = (
    "agreed",
    "c:",
    "canary:sweep",
    "connect:ticket:1",
    "due:03",
    "feed",
    "incarnations",
    "settlements",
    "throttle",
    "used:03",
)


def kinds_of(found: Mapping[bytes, Any]) -> list[str]:
    """Return the kinds of key that were found, a record's without its grant."""
    names = (key.decode().removeprefix(f"{PREFIX}:") for key in found)
    return sorted({"c:" if name.startswith("c:") else name for name in names})
