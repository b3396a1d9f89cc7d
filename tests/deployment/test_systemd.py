from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Final

import pytest

from sidecar.app.sidecar import WRONG_CONFIGURATION
from sidecar.settings import Settings, load
from tests.support.environment import CANARY, good_environment

ROOT: Final = Path(__file__).parent.parent.parent
SYSTEMD: Final = ROOT / "config/systemd"
UNIT: Final = (SYSTEMD / "akoya-sidecar.service").read_text("utf-8")
PROGRAM: Final = "/opt/akoya-sidecar/bin/akoya-sidecar"
STATE: Final = Path("/var/lib")
MARGIN_S: Final = 15
REREAD: Final = ("akoya_client_secret", "redis_url", "control_keys", "client_keys")
WORST_EXPOSURE: Final = 15
"""Of 100; systemd's own measure of what a service could still do to its machine."""


def values_of(name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", UNIT, re.MULTILINE)


def only_value(name: str) -> str:
    (value,) = values_of(name)
    return value


def lines_of(page: Path) -> list[str]:
    lines = page.read_text("utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


@pytest.fixture(name="settings")
def settings_of_the_unit(tmp_path: Path) -> Settings:
    """What the sidecar reads as this unit starts it, with each credential where systemd lays it."""
    secrets = good_environment(
        REDIS_URL="rediss://sidecar:secret@redis.example:6379/0",
        CLIENT_KEYS=f"app:{CANARY}-{'k' * 32}",
    )
    for credential in values_of("LoadCredential"):
        name, _, source = credential.partition(":")
        assert Path(source).name == name
        (tmp_path / name).write_text(secrets[f"SIDECAR_{name.upper()}"], "utf-8")
    for name in REREAD:
        (tmp_path / name).write_text(secrets[f"SIDECAR_{name.upper()}"], "utf-8")
    given = [*lines_of(SYSTEMD / "sidecar.env"), *values_of("Environment")]
    environment = {
        name: value.replace("%d", str(tmp_path))
        .replace("%S", str(STATE))
        .replace("/etc/akoya-sidecar", str(tmp_path))
        for name, _, value in (line.partition("=") for line in given)
    }
    settings = load(environment)
    assert isinstance(settings, Settings), settings
    return settings


def test_the_unit_configures_a_sidecar(settings: Settings) -> None:
    """Unit, environment file and credentials are a whole configuration, in production."""
    assert settings.akoya_environment == "production"
    assert [key.name for key in settings.client_keys] == ["app"]


def test_what_a_reload_takes_up_is_a_file_of_its_own(settings: Settings) -> None:
    """It is no credential, since those are copies made at the start; and a reload is SIGHUP."""
    sources = dict(each.split("=", 1) for each in values_of("Environment"))

    assert settings.akoya_client_secret.file is not None
    assert only_value("ExecReload") == "kill -HUP $MAINPID"
    credentials = values_of("LoadCredential")
    assert credentials
    for name in REREAD:
        assert sources[f"SIDECAR_{name.upper()}_FILE"] == f"/etc/akoya-sidecar/{name}"
        assert all(name not in each for each in credentials)


def test_the_spool_lies_where_the_unit_may_write(settings: Settings) -> None:
    """It is below the service's own state directory, which systemd makes and never clears."""
    assert Path(settings.spool_dir).parent == STATE / only_value("StateDirectory")
    assert only_value("StateDirectoryMode") == "0700"
    assert only_value("ProtectSystem") == "strict"
    assert values_of("ReadWritePaths") == []


def test_a_stop_gives_a_drain_its_time(settings: Settings) -> None:
    """Nobody kills a sidecar that is still allowed to drain."""
    assert float(only_value("TimeoutStopSec")) >= settings.drain_timeout_s + MARGIN_S


def test_a_wrong_configuration_is_not_tried_for_ever() -> None:
    """What a start again cannot mend ends there, and everything else is started again."""
    assert only_value("RestartPreventExitStatus") == str(WRONG_CONFIGURATION)
    assert only_value("Restart") == "always"


@pytest.mark.system
def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    """No line of it is misspelt or out of place; the program alone is another one here."""
    unit = tmp_path / "akoya-sidecar.service"
    unit.write_text(UNIT.replace(PROGRAM, "/bin/true"), "utf-8")

    done = subprocess.run(
        ["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False, timeout=50
    )

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.system
def test_systemd_finds_the_service_harmless() -> None:
    """What is left open is what a proxy needs, by systemd's own measure."""
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--no-pager",
         f"--threshold={WORST_EXPOSURE}", SYSTEMD / "akoya-sidecar.service"],
        capture_output=True, text=True, check=False, timeout=50,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout
