"""What every kind of test may ask for; each folder adds its own."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.support.redis_fleet import ClusterFleet, SentinelFleet, ServerFleet, running
from tests.support.redis_server import RedisServer


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """Address of a Redis for the whole session: ``SIDECAR_TEST_REDIS_URL``, else a private one."""
    given = os.environ.get("SIDECAR_TEST_REDIS_URL")  # noqa: TID251 - of the tests, not the sidecar
    if given:
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="sidecar-redis-") as directory:
        server = RedisServer(Path(directory))
        server.start()
        try:
            yield server.url
        finally:
            server.stop()


@pytest.fixture(scope="session")
def sentinel_url() -> Iterator[str]:
    """Address of a Sentinel service for the whole session; nobody breaks it."""
    yield from _url_of(SentinelFleet)


@pytest.fixture(scope="session")
def cluster_url() -> Iterator[str]:
    """Address of a Cluster for the whole session; nobody breaks it."""
    yield from _url_of(ClusterFleet)


def _url_of(make: Callable[[Path], ServerFleet]) -> Iterator[str]:
    with running(make) as fleet:
        yield fleet.url


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    """A server of this test alone, which keeps its writes, to be paused, killed and restarted."""
    with tempfile.TemporaryDirectory(prefix="sidecar-redis-") as directory:
        server = RedisServer(Path(directory), keeps_writes=True)
        server.start()
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture
def redis_prefix() -> str:
    """A key prefix that no other test uses; nobody ever flushes a server."""
    return f"test-{uuid4().hex}"
