from __future__ import annotations

import socket
import stat
from pathlib import Path

import pytest

from sidecar.domain.addresses import TcpAddress, UnixAddress
from sidecar.http.listening import listen
from tests.support.probes_rig import make_probes
from tests.support.proxy_rig import running_proxy
from tests.support.raw_http import answer, connected, request


async def test_the_proxy_listens_on_a_unix_socket_of_its_owner(tmp_path: Path) -> None:
    """A socket file serves like a port, and nobody but its owner may connect."""
    path = tmp_path / "proxy.sock"
    async with (
        running_proxy(answer(b"hi"), listen_on=f"unix:{path}"),
        connected(path=str(path)) as client,
    ):
        got = await client.ask(request())
        mode = stat.S_IMODE(path.stat().st_mode)

    assert (got.body, mode) == (b"hi", 0o600)
    assert not path.exists()


async def test_a_stale_socket_file_is_replaced(tmp_path: Path) -> None:
    """What a killed predecessor left behind does not keep the sidecar from starting."""
    path = tmp_path / "proxy.sock"
    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(str(path))

    async with (
        running_proxy(answer(b"hi"), listen_on=f"unix:{path}"),
        connected(path=str(path)) as client,
    ):
        assert (await client.ask(request())).body == b"hi"


async def test_a_socket_in_use_is_not_stolen(tmp_path: Path) -> None:
    """A running neighbour keeps its socket, and the second start fails."""
    path = tmp_path / "proxy.sock"
    async with running_proxy(answer(b"hi"), listen_on=f"unix:{path}"):
        with pytest.raises(OSError, match="in use"):
            async with running_proxy(answer(), listen_on=f"unix:{path}"):
                pass
        async with connected(path=str(path)) as client:
            assert (await client.ask(request())).body == b"hi"


async def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    """A wrong path destroys nothing."""
    path = tmp_path / "precious"
    path.write_text("data")

    with pytest.raises(OSError, match="in use"):
        async with running_proxy(answer(), listen_on=f"unix:{path}"):
            pass

    assert path.read_text() == "data"


async def test_the_mode_is_configurable(tmp_path: Path) -> None:
    """A group may be let in."""
    path = tmp_path / "proxy.sock"
    runner = make_probes().runner
    address = UnixAddress(path=str(path))

    listener = await listen(runner, address=address, socket_mode=0o660)
    mode = stat.S_IMODE(path.stat().st_mode)
    await listener.close()

    assert (mode, listener.address) == (0o660, f"unix:{path}")


async def test_port_zero_picks_a_free_port_and_tells_it() -> None:
    """The bound port is known after binding, for logs and for tests."""
    runner = make_probes().runner

    listener = await listen(runner, address=TcpAddress(host="127.0.0.1", port=0))
    port = listener.port
    address = listener.address
    await listener.close()

    assert port > 0
    assert address == f"127.0.0.1:{port}"
