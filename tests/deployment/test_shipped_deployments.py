"""Each deployment of `config/` and docker-compose.yml keeps its records over a restart of Redis.

What it sets makes the settings, those make the store, and the store writes to a real server that
is started as the deployment starts it, or as `config/redis` recommends.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from sidecar.adapters.redis_store import RedisTokenStore
from sidecar.adapters.system import SystemClock
from sidecar.adapters.trust import Trust
from sidecar.app.base import store_of
from sidecar.settings import Settings, load
from tests.support.environment import good_environment
from tests.support.manifests import (
    KUBERNETES,
    ROOT,
    base_manifest,
    environment_of,
    only_document,
    pod_of,
)
from tests.support.redis_server import PROGRAMS, RedisServer, program_of
from tests.support.shipped import LOGIN, PREFIX, all_of, filled_in, states_in, write_all
from tests.support.stores import Unheard, have_patience

COMPOSE: Final = only_document(ROOT / "docker-compose.yml")
SYSTEMD: Final = ROOT / "config/systemd"
SECRETS: Final = (
    "akoya_client_secret",
    "redis_url",
    "encryption_keys",
    "hash_key",
    "control_keys",
    "client_keys",
)

Deployment = Callable[[Path, str], tuple[RedisServer, Mapping[str, str]]]
"""From a directory and a server program to the store it uses, and the sidecar's environment."""


def compose(directory: Path, program: str) -> tuple[RedisServer, Mapping[str, str]]:
    """The file's own Redis, and keys as `make compose-keys` makes them."""
    redis, sidecar = COMPOSE["services"]["redis"], COMPOSE["services"]["sidecar"]
    mounted = dict(volume.split(":")[1::-1] for volume in redis["volumes"])
    name, config, *options = redis["command"]
    assert (name, redis["working_dir"]) == ("redis-server", "/data")
    assert (mounted["/data"], mounted[config]) == ("redis", "./config/redis/redis.conf")
    server = RedisServer(
        directory,
        config=filled_in(directory, has_users=False) / Path(mounted[config]).name,
        options=options,
        program=program,
    )
    keygen = (sys.executable, "-m", "sidecar", "keygen")
    subprocess.run(
        ["sh", ROOT / "config/compose/make-keys.sh", *keygen],
        cwd=directory,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)},
        check=True,
        capture_output=True,
        timeout=50,
    )
    given: Mapping[str, str] = sidecar["environment"]
    return server, {
        variable: value.replace("/run/secrets", str(directory / "secrets")).replace(
            "redis:6379", f"127.0.0.1:{server.port}"
        )
        for variable, value in given.items()
    }


def kubernetes(directory: Path, program: str) -> tuple[RedisServer, Mapping[str, str]]:
    """The recommended Redis, and the pod of the example."""
    server, secrets = _recommended(directory, program)
    lines = (KUBERNETES / "example/sidecar.env").read_text("utf-8").splitlines()
    configured = dict(line.split("=", 1) for line in lines)
    return server, configured | environment_of(
        pod_of(base_manifest("StatefulSet")), secrets=secrets
    )


def systemd(directory: Path, program: str) -> tuple[RedisServer, Mapping[str, str]]:
    """The recommended Redis, and what the unit and its environment file set."""
    server, secrets = _recommended(directory, program)
    unit = (SYSTEMD / "akoya-sidecar.service").read_text("utf-8")
    lines = (SYSTEMD / "sidecar.env").read_text("utf-8").splitlines()
    given = [line for line in lines if line and not line.startswith("#")]
    given += re.findall(r"^Environment=(.*)$", unit, re.MULTILINE)
    return server, {
        name: value.replace("%d", str(secrets))
        .replace("%S", "/var/lib")
        .replace("/etc/akoya-sidecar", str(secrets))
        for name, _, value in (line.partition("=") for line in given)
    }


def _recommended(directory: Path, program: str) -> tuple[RedisServer, Path]:
    config = filled_in(directory) / "redis.conf"
    server = RedisServer(directory, config=config, program=program, login=LOGIN)
    secrets = directory / "secrets"
    secrets.mkdir()
    values = good_environment(REDIS_URL=server.url, CLIENT_KEYS=f"app:{'k' * 40}")
    for name in SECRETS:
        (secrets / name).write_text(values[f"SIDECAR_{name.upper()}"] + "\n", "utf-8")
    return server, secrets


@pytest.fixture
def directory() -> Iterator[Path]:
    """Short, since the path of a unix socket has little room."""
    with tempfile.TemporaryDirectory(prefix="sidecar-redis-") as made:
        yield Path(made)


def store_from(environment: Mapping[str, str]) -> RedisTokenStore:
    settings: Any = load(environment)
    assert isinstance(settings, Settings), settings
    assert settings.redis_prefix == PREFIX
    return store_of(settings, trust=Trust(), observer=Unheard(), clock=SystemClock())


@pytest.mark.parametrize("deploy", [compose, kubernetes, systemd])
@pytest.mark.parametrize("program", PROGRAMS)
async def test_a_deployment_keeps_its_records_over_a_restart_of_the_store(
    directory: Path, program: str, deploy: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sidecar that a deployment configures finds afterwards what it wrote before."""
    have_patience(monkeypatch)
    server, environment = deploy(directory, program_of(program))
    first, second = store_from(environment), store_from(environment)
    try:
        server.start()
        await write_all(first)
        states, before = await states_in(first), all_of(server.url)

        server.shut_down()
        server.start()

        assert all_of(server.url) == before
        assert await states_in(second) == states
        assert "missing" not in states.values()
    finally:
        await first.close()
        await second.close()
        server.stop()
