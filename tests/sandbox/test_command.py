"""The sandbox as a process: it says where it listens, and stops as it is told."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from typing import TYPE_CHECKING

import aiohttp
import pytest

from sidecar.sandbox.command import make_parser, settings_of
from sidecar.sandbox.json_input import TUNABLE
from sidecar.sandbox.server import split_address
from tests.sandbox.driver import AppDriver

if TYPE_CHECKING:
    from asyncio.subprocess import Process

_RUN = "import sys; from sidecar.sandbox import main; sys.exit(main(sys.argv[1:]))"
_WITHOUT_AIOHTTP = f"import sys; sys.modules['aiohttp'] = None; {_RUN}"


async def _start(*options: str, code: str = _RUN) -> Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        code,
        *options,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_serves_until_it_is_told_to_stop(number: signal.Signals) -> None:
    """It prints its URL in one line, serves there, and ends with 0, even while a fault waits."""
    process = await _start(
        "--listen", "127.0.0.1:0", "--key-bits", "1024", "--id-token-life-s", "60"
    )
    assert process.stdout is not None
    line = (await process.stdout.readline()).decode()
    assert line.startswith("sandbox listening on http://127.0.0.1:")
    async with aiohttp.ClientSession() as session:
        app = AppDriver(session, line.split()[-1])
        obtained = await app.exchange(await app.code("mikomo_10"))

        process.send_signal(number)
        out, err = await process.communicate()

    assert obtained.json["expires_in"] == 60
    assert (process.returncode, out, err) == (0, b"", b"")


async def test_help_needs_no_web_framework() -> None:
    """Help comes even where aiohttp cannot be imported, so it does not import it."""
    process = await _start("--help", code=_WITHOUT_AIOHTTP)

    out, _ = await process.communicate()

    assert process.returncode == 0
    assert b"--strict-auth, --no-strict-auth" in out


async def test_a_taken_port_is_told() -> None:
    """A port that is in use ends it with 1 and one line that names the address."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        process = await _start("--listen", address, "--key-bits", "1024")

        _, err = await process.communicate()

    assert process.returncode == 1
    assert err.decode().startswith(f"cannot listen on {address}: ")
    assert b"Traceback" not in err


@pytest.mark.parametrize(
    "options", [("--id-token-life-s", "0"), ("--profile", "keycloak"), ("--key-bits", "512")]
)
async def test_a_wrong_option_is_told(options: tuple[str, ...]) -> None:
    """A value out of bounds ends it with the usage and 2, before it listens."""
    process = await _start(*options)

    out, err = await process.communicate()

    assert (process.returncode, out) == (2, b"")
    assert err.startswith(b"usage:")


@pytest.mark.parametrize(
    ("address", "split"),
    [("127.0.0.1:0", ("127.0.0.1", 0)), ("[::1]:9090", ("::1", 9090))],
)
def test_an_address_is_host_and_port(address: str, split: tuple[str, int]) -> None:
    """An IPv6 host stands in brackets."""
    assert split_address(address) == split


@pytest.mark.parametrize("address", ["9090", "localhost", ":9090", "host:", "host:99999"])
def test_what_is_no_address_is_refused(address: str) -> None:
    """Host and port are both needed."""
    with pytest.raises(ValueError, match="host:port"):
        split_address(address)


def test_everything_that_can_be_changed_can_be_started_with() -> None:
    """Each setting of a running sandbox is an option of the command as well."""
    help_text = make_parser().format_help()

    missing = [name for name in TUNABLE if f"--{name.replace('_', '-')}" not in help_text]
    assert missing == ["providers_down"]
    assert "--provider-down" in help_text


def test_banks_that_are_away_are_named_one_by_one() -> None:
    """The option may be given again, and its names are the setting's."""
    options = make_parser().parse_args(["--provider-down", "mikomo", "--provider-down", "other"])

    assert settings_of(options).providers_down == ("mikomo", "other")
