"""What the benchmark compares: the sidecar as it is shipped, a bare pass-through, nginx."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import trustme

from sidecar.adapters.redis_codec import encode
from sidecar.adapters.sealing import AesGcmSealer
from sidecar.domain.record import Consent, ConsentId, GrantKey, GrantRecord, RunId
from sidecar.domain.secret import Secret
from sidecar.domain.tokens import TokenPair
from sidecar.service.vault import PairPlace, Vault
from tests.support.redis_server import RedisServer

SUBJECT_CORE: Final = 0
OTHERS_CORE: Final = 1
REPOSITORY: Final = Path(__file__).resolve().parents[2]
KEY: Final = b"b" * 32
CLIENT_ID: Final = "bench"
PREFIX: Final = "bench"
LIFE_MS: Final = 86_400_000
BATCH: Final = 1000


@dataclass(frozen=True, kw_only=True)
class Bench:
    """The place where subjects run: certificates, a store, and the upstream's port."""

    directory: Path
    redis: RedisServer
    upstream_port: int

    @property
    def authority(self) -> Path:
        """The certificate authority that everybody trusts."""
        return self.directory / "ca.pem"

    @property
    def upstream_url(self) -> str:
        """The upstream, by a name that its certificate has."""
        return f"https://localhost:{self.upstream_port}"


@contextmanager
def process(command: list[str], *, core: int, **options: Any) -> Generator[subprocess.Popen[str]]:
    """Run a command on one core; it is gone afterwards."""
    if len(os.sched_getaffinity(0)) > 1:
        command = ["taskset", "-c", str(core), *command]
    started = subprocess.Popen(
        command, cwd=REPOSITORY, text=True, stdout=subprocess.PIPE, **options
    )
    try:
        yield started
    finally:
        started.terminate()  # not kill: nginx ends its workers itself
        started.wait()
        assert started.stdout is not None
        started.stdout.close()


@contextmanager
def part(*words: str, core: int) -> Generator[int]:
    """Run a part of the benchmark that tells its port; yield the port."""
    with process([sys.executable, "-m", "tests.benchmarks.parts", *words], core=core) as started:
        assert started.stdout is not None
        yield int(started.stdout.readline())


@contextmanager
def bench(directory: Path) -> Generator[Bench]:
    """Make certificates, start the store and the upstream."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(directory / "ca.pem"))
    certificate = directory / "upstream.pem"
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(certificate))
    redis = RedisServer(directory)
    redis.start()
    try:
        with part("upstream", str(certificate), core=OTHERS_CORE) as port:
            yield Bench(directory=directory, redis=redis, upstream_port=port)
    finally:
        redis.stop()


AS_SHIPPED: Final = """
import runpy, sys
sys.modules["opentelemetry"] = None
runpy.run_module("sidecar", run_name="__main__", alter_sys=True)
"""
"""Without the extra `otel`, which the image has not: redis-py imports it where it is there."""


@dataclass(frozen=True, kw_only=True)
class RunningSidecar:
    """A sidecar under measurement."""

    port: int
    pid: int
    ready_after_s: float

    @property
    def rss_kib(self) -> int:
        """Resident memory now."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1])


@contextmanager
def sidecar(place: Bench) -> Generator[RunningSidecar]:
    """Run the shipped program with its log to a file, as a container's would go."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith("SIDECAR_")}  # noqa: TID251 - handed on to a process
    environ |= sidecar_environ(place)
    environ["PYTHONPATH"] = str(_without_tools(place.directory))
    log = place.directory / f"sidecar-{time.monotonic_ns()}.log"
    command = [sys.executable, "-c", AS_SHIPPED, "run"]
    if len(os.sched_getaffinity(0)) > 1:
        command = ["taskset", "-c", str(SUBJECT_CORE), *command]
    started_s = time.perf_counter()
    with log.open("wb") as out:
        started = subprocess.Popen(command, cwd=REPOSITORY, env=environ, stdout=out, stderr=out)
    try:
        addresses = _addresses(log, started)
        ready_after_s = time.perf_counter() - started_s
        with urllib.request.urlopen(f"http://{addresses['metrics']}/readyz") as ready:
            assert ready.status == 200
        yield RunningSidecar(
            port=int(addresses["proxy"].rpartition(":")[2]),
            pid=started.pid,
            ready_after_s=ready_after_s,
        )
    finally:
        started.kill()
        started.wait()


def _without_tools(directory: Path) -> Path:
    """Return a path on which the library that only the developers' tools bring is not there.

    structlog imports rich where it finds it, and the lock file of the image has none.
    """
    hidden = directory / "without-tools"
    (hidden / "rich").mkdir(parents=True, exist_ok=True)
    (hidden / "rich" / "__init__.py").write_text("raise ImportError\n")
    return hidden


def _addresses(log: Path, started: subprocess.Popen[bytes]) -> dict[str, str]:
    while b"lifecycle.ready" not in log.read_bytes():
        assert started.poll() is None, log.read_text()
        time.sleep(0.005)
    lines = [json.loads(line) for line in log.read_bytes().splitlines() if line.startswith(b"{")]
    return {
        line["listener"]: line["address"]
        for line in lines
        if line["event"] == "lifecycle.listening"
    }


def sidecar_environ(place: Bench) -> dict[str, str]:
    """The configuration of the measured sidecar."""
    key = base64.b64encode(KEY).decode()
    return {
        "SIDECAR_AKOYA_CLIENT_ID": CLIENT_ID,
        "SIDECAR_AKOYA_CLIENT_SECRET": "bench-secret",
        "SIDECAR_PRODUCTS_URL": place.upstream_url,
        "SIDECAR_CA_FILE": str(place.authority),
        "SIDECAR_REDIS_URL": place.redis.url,
        "SIDECAR_REDIS_PREFIX": PREFIX,
        "SIDECAR_ENCRYPTION_KEYS": f"k1:{key}",
        "SIDECAR_HASH_KEY": key,
        "SIDECAR_CONTROL_KEYS": f"bench:{'k' * 32}",
        "SIDECAR_SPOOL_DIR": str(place.directory / "spool"),
        "SIDECAR_PROXY_LISTEN": "127.0.0.1:0",
        "SIDECAR_CONTROL_LISTEN": "127.0.0.1:0",
        "SIDECAR_METRICS_LISTEN": "127.0.0.1:0",
    }


def store_grants(place: Bench, count: int) -> None:
    """Put `count` live grants of `user-0`… into the store, each with a token of real size."""
    sealer = AesGcmSealer(
        keys=[("k1", KEY)], hash_key=KEY, environment="sandbox", client_id=CLIENT_ID
    )
    vault = Vault(sealer=sealer)
    now_ms = time.time_ns() // 1_000_000
    with place.redis.client() as client:
        run_id = RunId(client.info("server")["run_id"])
        for first in range(0, count, BATCH):
            pipe = client.pipeline(transaction=False)
            for number in range(first, min(first + BATCH, count)):
                key = GrantKey(user=f"user-{number}", provider="mikomo")
                grant = vault.grant_id(key)
                record = _record(vault, key, now_ms=now_ms, run_id=run_id)
                pipe.hset(f"{PREFIX}:c:{{{grant}}}", mapping=encode(record))
            pipe.execute()


def _record(vault: Vault, key: GrantKey, *, now_ms: int, run_id: RunId) -> GrantRecord:
    grant = vault.grant_id(key)
    tokens = TokenPair(
        id_token=Secret(f"eyJ{grant}." + "a" * 600 + "." + "b" * 342),
        refresh_token=Secret(f"Chl{grant}" + "c" * 50),
        life_s=LIFE_MS // 1000,
    )
    place = PairPlace(
        grant=grant,
        sealed_key=vault.seal_key(grant, key),
        consent=Consent(id=ConsentId(grant), consented_at_ms=now_ms),
        generation=0,
    )
    pair = vault.seal_pair(tokens, place=place, asked_at_ms=now_ms)
    return GrantRecord(pair=pair, run_id=run_id, committed_at_ms=now_ms)


@contextmanager
def bare(place: Bench) -> Generator[int]:
    """Run the bare aiohttp pass-through; yield its port."""
    with part("bare", place.upstream_url, str(place.authority), core=SUBJECT_CORE) as port:
        yield port


@contextmanager
def nginx(place: Bench) -> Generator[int]:
    """Run nginx with one worker as a reverse proxy to the upstream; yield its port."""
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    assert Path(program).exists(), "install nginx to compare with it"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    home = place.directory / "nginx"
    home.mkdir(exist_ok=True)
    (home / "nginx.conf").write_text(
        f"""
daemon off; worker_processes 1; pid {home}/nginx.pid; error_log {home}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log {home}/access.log;
  client_body_temp_path {home}/body; proxy_temp_path {home}/proxy;
  fastcgi_temp_path {home}/f; uwsgi_temp_path {home}/u; scgi_temp_path {home}/s;
  keepalive_requests 1000000;
  upstream data {{
    server 127.0.0.1:{place.upstream_port}; keepalive 64; keepalive_requests 1000000;
  }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass https://data; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header Authorization "Bearer x"; proxy_set_header Host localhost;
      proxy_ssl_verify on; proxy_ssl_trusted_certificate {place.authority};
      proxy_ssl_name localhost; proxy_ssl_server_name on;
    }}
  }}
}}
"""
    )
    command = [program, "-c", str(home / "nginx.conf"), "-p", str(home)]
    with process(command, core=SUBJECT_CORE):
        _await_port(port)
        yield port


def _await_port(port: int) -> None:
    for _ in range(500):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.01)
    raise AssertionError("nginx did not open its port")
