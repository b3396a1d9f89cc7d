"""Reads what a run left in the store and in the spools, with the keys of the test fleet."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from sidecar.adapters.redis_codec import decode
from sidecar.adapters.sealing import AesGcmSealer
from sidecar.adapters.spool_directory import ReplicaDirectory
from sidecar.adapters.spool_log import read_log
from sidecar.domain.record import GrantId, StoredPair
from sidecar.domain.spooled import SpoolState
from sidecar.sandbox.ids import digest
from sidecar.service.vault import Vault
from tests.chaos.evidence import Stored
from tests.support.fleet import ENCRYPTION_KEYS, HASH_KEY


def fleet_vault() -> Vault:
    """Return what opens the envelopes of the test fleet."""
    key_id, _, key = ENCRYPTION_KEYS.partition(":")
    return Vault(
        sealer=AesGcmSealer(
            keys=[(key_id, base64.b64decode(key))],
            hash_key=base64.b64decode(HASH_KEY),
            environment="sandbox",
            client_id="sandbox-client",
        )
    )


def stored_grants(client: Any, *, prefix: str) -> Mapping[str, Stored]:
    """Return what a store has of each user; `client` is a synchronous Redis client."""
    vault = fleet_vault()
    found: dict[str, Stored] = {}
    begin = f"{prefix}:c:{{"
    for key in client.scan_iter(match=f"{begin}*", count=1000):
        grant = GrantId(key.decode()[len(begin) : -1])
        record = decode(client.hgetall(key))
        user, token = _opened(vault, grant, record.pair)
        found[user] = Stored(state=record.state.value, token=token)
    return found


def usual_grants(client: Any, *, prefix: str) -> Mapping[str, Stored]:
    """Return what the usual way has stored of each user, in plain text."""
    tokens = {
        key.decode().removeprefix(prefix): client.hget(key, "refresh_token").decode()
        for key in client.scan_iter(match=f"{prefix}user-*", count=1000)
    }
    return {user: Stored(state="active", token=digest(token)) for user, token in tokens.items()}


def spooled_tokens(spools: Iterable[Path]) -> Mapping[str, frozenset[str]]:
    """Return the tokens of pairs that lie in the spools of processes that have ended, by user."""
    vault = fleet_vault()
    found: dict[str, set[str]] = {}
    for state in map(_state_of, _directories(spools)):
        for grant, received in state.pairs.items():
            user, token = _opened(vault, grant, received.pair)
            if token is not None:
                found.setdefault(user, set()).add(token)
    return {user: frozenset(tokens) for user, tokens in found.items()}


def _directories(spools: Iterable[Path]) -> Iterator[Path]:
    for spool in spools:
        yield from spool.glob("replica-*")


def _state_of(path: Path) -> SpoolState:
    directory = ReplicaDirectory.seize(path)
    assert directory is not None, f"somebody still owns {path.name}"
    state = SpoolState()
    for entry, at_s in read_log(directory).entries:
        state.apply(entry, at_s=at_s)
    directory.release()
    return state


def _opened(vault: Vault, grant: GrantId, pair: StoredPair) -> tuple[str, str | None]:
    user = vault.open_key(grant, pair.sealed_key).user
    if not pair.sealed_pair:
        return user, None
    return user, digest(vault.open_pair(grant, pair).refresh_token.reveal())
