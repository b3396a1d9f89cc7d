"""What another reading of the files may change in a sidecar that runs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sidecar.domain.secret import FiledSecret, Secret
from sidecar.domain.store_address import is_same_store
from sidecar.settings import NamedKey, SealingKey, Settings, load
from sidecar.settings.rereading import Changes, changes_between
from tests.support.environment import good_environment

NEW_KEYS = (NamedKey(name="a", key=Secret("k" * 32)),)


def settings() -> Settings:
    loaded = load(good_environment(REDIS_URL="rediss://user:one@store:6379/1"))
    assert isinstance(loaded, Settings)
    return loaded


@pytest.mark.parametrize(
    ("changed", "renewed", "restart_needed"),
    [
        ({}, (), ()),
        ({"client_keys": NEW_KEYS}, ("client_keys",), ()),
        ({"control_keys": NEW_KEYS}, ("control_keys",), ()),
        ({"akoya_client_secret": FiledSecret(Secret("new"))}, ("akoya_client_secret",), ()),
        ({"egress_proxy": Secret("http://u:p@proxy:3128")}, ("egress_proxy",), ()),
        ({"redis_url": Secret("rediss://user:two@store:6379/1")}, ("redis_url",), ()),
        (
            {"encryption_keys": (SealingKey(key_id="k2", key=b"n" * 32),)},
            (),
            ("encryption_keys",),
        ),
    ],
)
def test_credentials_are_renewed_and_encryption_keys_wait_for_a_restart(
    changed: dict[str, object], renewed: tuple[str, ...], restart_needed: tuple[str, ...]
) -> None:
    """What lets in or logs in counts at once; what seals is compared with the fleet at a start."""
    before = settings()

    found = changes_between(before, replace(before, **changed))  # type: ignore[arg-type]

    assert found == Changes(renewed=renewed, restart_needed=restart_needed)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("hash_key", b"o" * 32),
        ("redis_url", Secret("rediss://user:one@canary-store:6379/1")),
        ("redis_url", Secret("redis://user:one@store:6379/1")),
        ("max_in_flight", 7),
    ],
)
def test_what_would_be_another_sidecar_is_refused(field: str, value: object) -> None:
    """Other names for grants, or another store, are no reload; the problem shows no value."""
    before = settings()

    found = changes_between(before, replace(before, **{field: value}))  # type: ignore[arg-type]

    assert not isinstance(found, Changes)
    (problem,) = found
    assert problem.variable == f"SIDECAR_{field.upper()}"
    assert "canary" not in str(problem)


@pytest.mark.parametrize(
    ("first", "second", "is_same"),
    [
        ("redis://a:1@h:1/0", "redis://b:2@h:1/0", True),
        ("redis://h:1/0", "redis://:2@h:1/0", True),
        ("unix:///s?db=1&password=a", "unix:///s?db=1&password=b", True),
        ("unix:///s?db=1", "unix:///s?db=2", False),
        ("redis://h:1/0", "redis://h:1/1", False),
        (
            "redis+sentinel://a:1@h:1,i:2/s?sentinel_password=x",
            "redis+sentinel://a:2@h:1,i:2/s?sentinel_password=y",
            True,
        ),
        ("redis+sentinel://h:1/s", "redis+sentinel://h:1/t", False),
        ("redis+cluster://a:1@h:1", "redis+cluster://a:2@h:1", True),
        ("redis+cluster://h:1", "rediss+cluster://h:1", False),
        ("rediss://h:1?ssl_certfile=/a", "rediss://h:1?ssl_certfile=/b", False),
    ],
)
def test_a_store_is_the_same_whoever_logs_in(first: str, second: str, *, is_same: bool) -> None:
    """User and password may change, of the servers and of the Sentinels; nothing else may."""
    assert is_same_store(first, second) is is_same
