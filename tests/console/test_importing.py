"""`akoya-sidecar grants import`: thousands of grants, single failures, a sidecar that is busy."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sidecar.console.exits import DONE, KEY_REFUSED, MISCONFIGURED, PARTLY_FAILED, UNAVAILABLE
from tests.console.terminal import run_grants
from tests.support.control_rig import ControlRig, running_control
from tests.support.redis_server import free_port

CANARY = "canary-refresh-token"
Capsys = pytest.CaptureFixture[str]


def line(number: int, **changes: object) -> str:
    members = {
        "user": f"u-{number}",
        "provider": "mikomo",
        "id_token": f"canary-id-token-{number}",
        "refresh_token": f"{CANARY}-{number}",
    }
    return json.dumps(members | changes)


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., str]:
    """Write lines to a file and return its path."""

    def write(*lines: str) -> str:
        path = tmp_path / "grants.jsonl"
        path.write_text("\n".join(lines) + "\n")
        return str(path)

    return write


async def test_lines_become_grants_and_may_be_sent_again(
    capsys: Capsys, written: Callable[..., str]
) -> None:
    """A second run of the same import changes nothing, so that it can be repeated after trouble."""
    file = written(line(1), "", line(2, expires_in=900))
    async with running_control() as control:
        first = await run_grants(capsys, control, "import", file)
        again = await run_grants(capsys, control, "import", file, "--json")
        listed = await run_grants(capsys, control, "list", "--json")

    assert first.code == again.code == DONE
    assert first.out == "2 lines: 2 new, 0 replaced or stored before, 0 failed\n"
    assert again.documents == [
        {"lines": 2, "created": 0, "kept": 2, "failed": 0, "stopped_by": None, "failures": []}
    ]
    assert sorted(each["user"] for each in listed.documents) == ["u-1", "u-2"]


async def test_lines_come_from_standard_input_too(
    capsys: Capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipe needs no file of tokens on any disk."""
    piped = io.TextIOWrapper(io.BytesIO(f"{line(1)}\n".encode()))
    monkeypatch.setattr("sys.stdin", piped)
    async with running_control() as control:
        said = await run_grants(capsys, control, "import", "-")

    assert (said.code, said.out.split(",")[0]) == (DONE, "1 lines: 1 new")


async def test_a_line_that_fails_is_told_and_the_others_go_on(
    capsys: Capsys, written: Callable[..., str]
) -> None:
    """Each failure has its line, its owner and its reason; no report repeats a token."""
    lines = (
        line(1),
        "{" + CANARY,
        f'["{CANARY}"]',
        line(2, user=7),
        line(3, refresh_token=f"{CANARY} with a space"),
        line(1, refresh_token=f"{CANARY}-other"),
        line(4),
    )
    async with running_control() as control:
        said = await run_grants(capsys, control, "import", written(*lines))
        told = await run_grants(capsys, control, "import", written(*lines), "--json")

    assert said.code == told.code == PARTLY_FAILED
    assert said.out == "7 lines: 2 new, 0 replaced or stored before, 5 failed\n"
    assert said.err.splitlines() == [
        "line 2: line_invalid: the line is no JSON object",
        "line 3: line_invalid: the line is no JSON object",
        "line 4: line_invalid: `user` and `provider` must be texts that are not empty",
        (
            "line 5 (u-3 at mikomo): request_invalid: The request is not as this call wants it; "
            "see `errors`. refresh_token: required: visible characters, at most 8 KiB."
        ),
        (
            "line 6 (u-1 at mikomo): grant_exists: A live grant stands: send a newer "
            "`consented_at`, or `?replace=true` to replace it."
        ),
    ]
    assert [each["line"] for each in told.documents[0]["failures"]] == [2, 3, 4, 5, 6]
    assert CANARY not in said.out + said.err + told.out + told.err


async def test_a_live_grant_is_replaced_where_that_is_asked_for(
    capsys: Capsys, written: Callable[..., str]
) -> None:
    """With --replace the newest file wins."""
    async with running_control() as control:
        await run_grants(capsys, control, "import", written(line(1)))
        file = written(line(1, refresh_token=f"{CANARY}-other"))
        said = await run_grants(capsys, control, "import", file, "--replace")

    assert said.out == "1 lines: 0 new, 1 replaced or stored before, 0 failed\n"


async def test_a_busy_sidecar_is_asked_again_as_it_says(
    capsys: Capsys, written: Callable[..., str]
) -> None:
    """A 503 is no failure: the line waits for `Retry-After` and is stored then."""
    waits: list[float] = []
    async with running_control() as control:
        control.rig.store.is_available = False

        def stop_for(seconds: float) -> None:
            waits.append(seconds)
            control.rig.store.is_available = len(waits) == 3

        said = await run_grants(
            capsys, control, "import", written(line(1), line(2)), stop_for=stop_for
        )

    assert (said.code, said.out.split(",")[0]) == (DONE, "2 lines: 2 new")
    assert waits == [1.0, 1.0, 1.0]


async def test_a_line_has_an_end_of_patience(capsys: Capsys, written: Callable[..., str]) -> None:
    """What stays impossible becomes the failure of its line."""
    async with running_control() as control:
        control.rig.store.is_available = False
        said = await run_grants(
            capsys, control, "import", written(line(1)), "--patience-s", "3", "--json"
        )

    assert said.code == PARTLY_FAILED
    assert said.documents[0]["failures"][0]["reason"] == "token_unavailable"


async def test_where_nobody_answers_the_import_stops_and_says_where(
    capsys: Capsys, written: Callable[..., str]
) -> None:
    """The waits grow; then exit code 69 and the line, instead of a failure for every line left."""
    waits: list[float] = []
    file = written(line(1), line(2), line(3))

    said = await run_grants(
        capsys, free_port(), "import", file, "--patience-s", "10", stop_for=waits.append
    )

    assert said.code == UNAVAILABLE
    assert waits == [1.0, 2.0, 4.0, 8.0]
    assert said.err.startswith("no answer at line 1 (ConnectionRefusedError); what is stored stays")
    assert said.out == "1 lines: 0 new, 0 replaced or stored before, 0 failed\n"


async def test_a_refused_key_stops_at_the_first_line(
    capsys: Capsys, written: Callable[..., str], tmp_path: Path
) -> None:
    """No tokens are sent by the thousand to a listener that will take none of them."""
    key = tmp_path / "key"
    key.write_text("no-key-of-this-sidecar-no-key-of-it")
    async with running_control() as control:
        file = written(line(1), line(2))
        said = await run_grants(capsys, control, "import", file, "--key-file", str(key))

    assert (said.code, len(control.completed)) == (KEY_REFUSED, 1)


async def test_a_file_that_cannot_be_read_is_told(capsys: Capsys) -> None:
    """Exit code 78 before anything is sent."""
    async with running_control() as control:
        said = await run_grants(capsys, control, "import", "/nowhere/grants.jsonl")

    assert said.code == MISCONFIGURED
    assert said.err.startswith("the file cannot be read: ")
    assert control.completed == []


async def test_a_person_sees_how_far_it_is(
    capsys: Capsys, written: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long import is not silent, also where no terminal watches."""
    monkeypatch.setattr("sidecar.console.grants.PROGRESS_EVERY", 2)

    async def imported(control: ControlRig) -> str:
        return (await run_grants(capsys, control, "import", written(*map(line, range(5))))).err

    async with running_control() as control:
        err = await imported(control)

    assert err.splitlines() == ["2 lines, 0 failed", "4 lines, 0 failed"]
