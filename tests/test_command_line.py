from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Final

import pytest

from sidecar import __version__
from sidecar.__main__ import main
from sidecar.healthcheck import check
from sidecar.settings import Settings, load
from tests.support.environment import CANARY, encoded_key, good_environment

SLOW_LIBRARIES: Final = (
    "aiohttp",
    "redis",
    "pydantic",
    "structlog",
    "prometheus_client",
    "cryptography",
    "orjson",
    "asyncio",
)


def run(*words: str, environment: Mapping[str, str] | None = None) -> tuple[int, str, str]:
    """Run the program as an operator would: exit code, standard output, standard error."""
    path = {"PATH": os.defpath, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "sidecar", *words],
        env=path | dict(environment or {}),
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        cwd=Path(__file__).parent.parent,
    )
    return done.returncode, done.stdout, done.stderr


def imported_by(*words: str) -> set[str]:
    """Return the top-level packages that a command imports."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "sidecar", *words],
        env={"PATH": os.defpath, "SIDECAR_METRICS_LISTEN": "unix:/nowhere/x"},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        cwd=Path(__file__).parent.parent,
    )
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}


class Ready(BaseHTTPRequestHandler):
    """Answers /readyz with the status that the server was given."""

    def do_GET(self) -> None:
        status = self.server.status if self.path == "/readyz" else 404  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownVariableType]
        self.send_response(status)  # pyright: ignore[reportUnknownArgumentType]
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as above
        """Say nothing."""


class UnixServer(HTTPServer):
    """The same on the path of a socket."""

    address_family = socket.AF_UNIX

    def server_bind(self) -> None:
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = "localhost", 0

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        connection, _ = self.socket.accept()
        return connection, ("unix", 0)


@pytest.fixture(params=["tcp", "unix"])
def listener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[HTTPServer, str]]:
    """A metrics listener and the variable that names it."""
    path = str(tmp_path / "s")
    if request.param == "tcp":
        server = HTTPServer(("127.0.0.1", 0), Ready)
        address = f"0.0.0.0:{server.server_port}"
    else:
        server = UnixServer(path, Ready)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        address = f"unix:{path}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server, address
    server.shutdown()
    thread.join(10)
    server.server_close()


def test_check_config_prints_every_problem_and_no_value() -> None:
    """Ten mistakes are ten lines, each with its variable first, and exit code 78."""
    environment = {
        "SIDECAR_AKOYA_CLIENT_SECRET": f"{CANARY} with a space",
        "SIDECAR_ENCRYPTION_KEYS": f"k1:{CANARY}",
        "SIDECAR_HASH_KEY": CANARY,
        "SIDECAR_CONTROL_KEYS": f"ops:{CANARY}",
        "SIDECAR_REDIS_URL": f"http://:{CANARY}@redis",
        "SIDECAR_PROXY_LISTEN": "0.0.0.0:8080",
        "SIDECAR_REFRESH_WAIT_S": CANARY,
        "SIDECAR_LOG_LEVEL": CANARY,
        "SIDECAR_UPSTRAEM_TIMEOUT_S": CANARY,
    }

    code, out, err = run("check-config", environment=environment)

    lines = out.splitlines()
    assert code == 78
    assert err == ""
    assert [line.partition(": ")[0] for line in lines] == [
        "SIDECAR_AKOYA_CLIENT_ID",
        "SIDECAR_AKOYA_CLIENT_SECRET",
        "SIDECAR_REDIS_URL",
        "SIDECAR_ENCRYPTION_KEYS",
        "SIDECAR_HASH_KEY",
        "SIDECAR_PROXY_LISTEN",
        "SIDECAR_CONTROL_KEYS",
        "SIDECAR_REFRESH_WAIT_S",
        "SIDECAR_LOG_LEVEL",
        "SIDECAR_UPSTRAEM_TIMEOUT_S",
    ]
    assert CANARY not in out


@pytest.mark.parametrize("command", ["run", "check-config"])
def test_a_certificate_that_cannot_be_used_starts_nothing(command: str, tmp_path: Path) -> None:
    """The start and its rehearsal name the file's variable, and the exit code is 78."""
    pem = tmp_path / "half.pem"
    pem.write_text("-----BEGIN CERTIFICATE-----\nMIIB")
    files = {"CA_FILE": str(pem), "CONTROL_TLS_CERT": str(pem), "CONTROL_TLS_KEY": str(pem)}

    code, out, err = run(command, environment=good_environment(**files))

    assert code == 78
    assert [line.partition(": ")[0] for line in (out + err).splitlines()] == [
        "SIDECAR_CA_FILE",
        "SIDECAR_CONTROL_TLS_CERT",
    ]


def test_check_config_of_good_settings_exits_0() -> None:
    """A deployment pipeline can ask before it rolls out."""
    code, out, err = run("check-config", environment=good_environment())

    assert (code, out, err) == (0, "the configuration is complete\n", "")


def test_run_with_wrong_settings_starts_nothing() -> None:
    """The same lines on standard error, and exit code 78 before any library is loaded."""
    code, out, err = run("run", environment=good_environment(LOG_LEVEL=CANARY))

    assert code == 78
    assert out == ""
    assert err == "SIDECAR_LOG_LEVEL: must be 'debug', 'info', 'warning' or 'error'\n"


def test_keygen_prints_what_the_settings_accept() -> None:
    """Three lines can be pasted into an environment file, and no two runs are alike."""
    code, out, _ = run("keygen")
    _, again, _ = run("keygen")

    parts = [line.partition("=") for line in out.splitlines()]
    printed = {name: value for name, _, value in parts}
    assert code == 0
    assert list(printed) == [
        "SIDECAR_ENCRYPTION_KEYS",
        "SIDECAR_HASH_KEY",
        "SIDECAR_CONTROL_KEYS",
    ]
    assert isinstance(load(good_environment() | printed), Settings)
    assert not set(out.splitlines()) & set(again.splitlines())


def test_healthcheck_says_whether_the_sidecar_is_ready(listener: tuple[HTTPServer, str]) -> None:
    """Exit code 0 on 200, 1 on anything else; TCP or Unix, wildcard address included."""
    server, address = listener
    environment = {"SIDECAR_METRICS_LISTEN": address}

    server.status = 200  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    good = run("healthcheck", environment=environment)
    server.status = 503  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    bad = run("healthcheck", environment=environment)

    assert good == (0, "/readyz answered 200\n", "")
    assert bad == (1, "/readyz answered 503\n", "")


def test_healthcheck_without_anybody_listening_is_a_plain_no() -> None:
    """A container that is not up yet is unhealthy, not a traceback."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"

        answer = check({"SIDECAR_METRICS_LISTEN": address})

    assert answer == (False, f"no answer on {address}: ConnectionRefusedError")
    assert check({"SIDECAR_METRICS_LISTEN": "9464"}) == (
        False,
        "SIDECAR_METRICS_LISTEN is no address",
    )


@pytest.mark.parametrize("words", [["--help"], ["healthcheck"]])
def test_help_and_healthcheck_import_the_standard_library_only(words: list[str]) -> None:
    """What runs every ten seconds beside the sidecar costs a few milliseconds of processor."""
    imported = imported_by(*words)

    assert "argparse" in imported
    assert not imported & set(SLOW_LIBRARIES)


@pytest.mark.parametrize("command", ["run", "check-config", "healthcheck", "keygen"])
def test_every_command_is_in_the_help(command: str) -> None:
    """The help names what the program can do."""
    code, out, _ = run("--help")

    assert code == 0
    assert command in out
    assert "reference" in out
    assert "demo" in out
    assert "sandbox" in out


def test_the_version_and_a_wrong_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    """`--version` is the release; an unknown command is a usage error."""
    with pytest.raises(SystemExit) as asked:
        main(["--version"])
    with pytest.raises(SystemExit) as mistaken:
        main(["serve"])

    assert asked.value.code == 0
    assert capsys.readouterr().out == f"akoya-sidecar {__version__}\n"
    assert mistaken.value.code == 2


def test_reference_prints_one_page_or_all(capsys: pytest.CaptureFixture[str]) -> None:
    """The pages that lie in the documentation can be had from the program itself."""
    code = main(["reference", "metrics"])
    one = capsys.readouterr().out
    main(["reference"])
    everything = capsys.readouterr().out
    unknown = main(["reference", "poems"])

    assert (code, unknown) == (0, 1)
    assert one.startswith("# Metrics\n")
    assert one in everything
    assert "# Configuration\n" in everything


def test_settings_of_the_environment_reach_the_program_from_files(tmp_path: Path) -> None:
    """A secret mounted as a file is enough; it need not stand in the environment."""
    file = tmp_path / "hash-key"
    file.write_text(encoded_key("h") + "\n")
    environment = good_environment(HASH_KEY_FILE=str(file))
    del environment["SIDECAR_HASH_KEY"]

    assert run("check-config", environment=environment)[0] == 0
    assert json.dumps(environment).count("HASH_KEY") == 1
