"""`akoya-sidecar brake` against a whole sidecar on memory adapters, over real HTTP."""

from __future__ import annotations

import asyncio
import io
import json
import re
from pathlib import Path

import pytest

from sidecar.console import brake
from sidecar.console.exits import DONE, KEY_REFUSED, MISCONFIGURED, REFUSED, UNAVAILABLE
from sidecar.domain.throttle import ReserveSettlement
from tests.console.terminal import KEYS, Printed
from tests.http.test_control_brake import DOUBTED, braked
from tests.support.control_rig import ControlRig, running_control
from tests.support.redis_server import free_port

Capsys = pytest.CaptureFixture[str]
WRONG_COMMAND_LINE = 2


class Terminal(io.StringIO):
    """A person who types one line."""

    def isatty(self) -> bool:
        return True


async def run(
    capsys: Capsys,
    control: ControlRig | int,
    *words: str,
    asked: io.StringIO | None = None,
    keys: str = KEYS,
) -> Printed:
    """Run `akoya-sidecar brake` with the listener and its key in the environment."""
    port = control if isinstance(control, int) else control.port
    environ = {"SIDECAR_CONTROL_LISTEN": f"127.0.0.1:{port}", "SIDECAR_CONTROL_KEYS": keys}
    capsys.readouterr()
    code = await asyncio.to_thread(brake.main, words, environ, asked=asked or io.StringIO())
    said = capsys.readouterr()
    return Printed(code=code, out=said.out, err=said.err)


def rows(printed: Printed) -> dict[str, str]:
    """Return the table that was printed, without its heading."""
    lines = [re.split(r" {2,}", line, maxsplit=1) for line in printed.out.splitlines()[1:]]
    return dict(lines)


async def test_a_person_reads_whether_it_is_on_and_what_to_do(capsys: Capsys) -> None:
    """Exit code 1 while it is on, 0 while it is not; a program reads the document of the API."""
    async with running_control() as control:
        off = await run(capsys, control, "show")
        await braked(control)
        on = await run(capsys, control, "show")
        told = await run(capsys, control, "show", "--json")
        document = (await control.ask("GET", "/brake")).document

    assert off.code == DONE
    assert rows(off)["state"] == "off"
    assert (on.code, told.code) == (REFUSED, REFUSED)
    assert rows(on)["cause"] == "denials"
    assert rows(on)["denied lately"] == "20 of 30 refreshes"
    assert rows(on)["grants in doubt"] == f"{DOUBTED}"
    assert rows(on)["what to do"].startswith("Find out why")
    assert json.loads(told.out) == document


async def test_a_release_lets_ten_go_and_shows_the_trial(capsys: Capsys) -> None:
    """Without a number it is the safe one; the progress of the trial can be looked at."""
    async with running_control() as control:
        await braked(control)
        released = await run(capsys, control, "release")
        await control.rig.store.throttle(ReserveSettlement(grant=control.rig.parts.grant()))
        shown = await run(capsys, control, "show")

    assert (released.code, shown.code) == (DONE, DONE)
    assert rows(released)["trial"] == "0 of 10 grants decided, 0 denied"
    assert rows(shown)["trial"] == "1 of 10 grants decided, 1 denied"


async def test_a_number_says_how_many_are_let_go(capsys: Capsys) -> None:
    """--limit goes to the sidecar as it is."""
    async with running_control() as control:
        await braked(control)
        released = await run(capsys, control, "release", "--limit", "250", "--json")

    assert json.loads(released.out)["trial"]["limit"] == 250


async def test_all_are_let_go_once_a_person_typed_how_many_they_are(capsys: Capsys) -> None:
    """The number is asked for in plain words; anything else releases nothing, with exit code 1."""
    async with running_control() as control:
        await braked(control)
        answers = ["4\n", "yes\n", "\n", "", f"0{DOUBTED}\n"]
        wrong = [
            await run(capsys, control, "release", "--all", asked=Terminal(text)) for text in answers
        ]
        was_braked = control.rig.store.held_back.is_braked
        right = await run(capsys, control, "release", "--all", asked=Terminal(f" {DOUBTED} \n"))

    assert {each.code for each in wrong} == {REFUSED}
    assert wrong[0].err.startswith(f"{DOUBTED} users are in doubt.")
    assert f"Type {DOUBTED} to release all: " in wrong[0].err
    assert wrong[0].err.endswith(f"nothing was released: {DOUBTED} grants are in doubt\n")
    assert was_braked
    assert right.code == DONE
    assert rows(right)["state"] == "free"
    assert not control.rig.store.held_back.is_braked


async def test_an_interrupted_question_releases_nothing(
    capsys: Capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C at the number is a no, with exit code 1 and no traceback."""

    def interrupt() -> str:
        raise KeyboardInterrupt

    asked = Terminal()
    monkeypatch.setattr(asked, "readline", interrupt)
    async with running_control() as control:
        await braked(control)
        said = await run(capsys, control, "release", "--all", asked=asked)

    assert said.code == REFUSED
    assert said.err.endswith(f"nothing was released: {DOUBTED} grants are in doubt\n")
    assert control.rig.store.held_back.is_braked


async def test_a_script_must_say_how_many_they_are(capsys: Capsys) -> None:
    """Where no person can be asked, --confirm is needed, and must be right."""
    async with running_control() as control:
        await braked(control)
        unasked = await run(capsys, control, "release", "--all")
        wrong = await run(capsys, control, "release", "--all", "--confirm", "4")
        was_braked = control.rig.store.held_back.is_braked
        right = await run(capsys, control, "release", "--all", "--confirm", str(DOUBTED))

    assert unasked.code == WRONG_COMMAND_LINE
    assert "--all needs --confirm N" in unasked.err
    assert (wrong.code, was_braked) == (REFUSED, True)
    assert right.code == DONE


async def test_a_brake_that_is_off_has_nothing_to_release(capsys: Capsys) -> None:
    """It asks for no number, and changes nothing."""
    async with running_control() as control:
        released = await run(capsys, control, "release", "--all", asked=Terminal(""))
        some = await run(capsys, control, "release")

    assert (released.code, some.code, released.err) == (DONE, DONE, "")
    assert rows(released)["state"] == "off"
    assert control.rig.store.held_back.revision == 0


@pytest.mark.parametrize(
    "words",
    [
        ["release", "--limit", "0"],
        ["release", "--limit", "1001"],
        ["release", "--limit", "ten"],
        ["release", "--limit", "5", "--all"],
        ["release", "--confirm", "3"],
        ["release", "--all", "--confirm", "-1"],
        ["pull"],
        [],
    ],
    ids=" ".join,
)
async def test_a_wrong_command_line_asks_no_sidecar(capsys: Capsys, words: list[str]) -> None:
    """Exit code 2, before anything is released."""
    with pytest.raises(SystemExit) as ended:
        await run(capsys, 1, *words)

    assert ended.value.code == WRONG_COMMAND_LINE


async def test_what_stands_in_the_way_has_exit_codes_of_its_own(
    capsys: Capsys, tmp_path: Path
) -> None:
    """69 where waiting helps, 77 for the key, 78 where no sidecar was asked."""
    async with running_control() as control:
        control.rig.store.is_available = False
        away = [await run(capsys, control, word) for word in ("show", "release")]
        unknown = await run(capsys, control, "show", keys=f"operator:{'x' * 40}")
    gone = await run(capsys, free_port(), "release")
    unset = await run(capsys, 1, "show", "--key-file", str(tmp_path / "none"))

    assert [each.code for each in away] == [UNAVAILABLE] * 2
    assert away[0].err.startswith("503 token_unavailable: ")
    assert (unknown.code, gone.code, unset.code) == (KEY_REFUSED, UNAVAILABLE, MISCONFIGURED)
