"""`akoya-sidecar grants` against a whole sidecar on memory adapters, over real HTTP."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidecar.console import grants
from sidecar.console.exits import (
    DONE,
    KEY_REFUSED,
    MISCONFIGURED,
    REFUSED,
    UNAVAILABLE,
)
from sidecar.domain.addresses import UnixAddress
from sidecar.domain.wire import Answered
from sidecar.http.listening import listen
from tests.console.terminal import KEYS, run_grants
from tests.support.control_rig import CONTROL_KEY, GRANT, OTHER_KEY, running_control
from tests.support.redis_server import free_port
from tests.support.scripted_idp import pair_answer, refusal

OWNER = ("mikomo", "u-1")
Capsys = pytest.CaptureFixture[str]


async def test_a_grant_is_shown_to_people_and_to_programs(capsys: Capsys) -> None:
    """One grant as a table of its members, or as the very document of the API."""
    async with running_control() as control:
        shown = (await control.onboard()).document
        table = await run_grants(capsys, control, "show", *OWNER)
        printed = await run_grants(capsys, control, "show", *OWNER, "--json")

    assert (table.code, printed.code) == (DONE, DONE)
    assert f"grant                {shown['grant']}" in table.out
    assert "last_error           -\n" in table.out
    assert printed.documents == [shown]
    assert "refresh-0" not in table.out + printed.out


async def test_grants_are_listed_in_columns_or_a_document_a_line(capsys: Capsys) -> None:
    """A list begins with its columns; as JSON each line is one grant; a filter is passed on."""
    async with running_control() as control:
        await control.onboard()
        table = await run_grants(capsys, control, "list")
        lines = await run_grants(capsys, control, "list", "--state", "active", "--json")
        none = await run_grants(capsys, control, "list", "--state", "revoked", "--json")

    assert table.out.splitlines()[0].split()[:4] == ["user", "provider", "state", "generation"]
    assert table.out.splitlines()[1].split()[:4] == ["u-1", "mikomo", "active", "0"]
    assert [line["user"] for line in lines.documents] == ["u-1"]
    assert (none.code, none.out, none.err) == (DONE, "", "")


async def test_a_long_list_says_that_it_was_cut(
    capsys: Capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody takes the first grants for all of them; with --all every page is asked for."""
    monkeypatch.setattr(grants, "PAGE", 2)
    async with running_control() as control:
        for number in range(5):
            control.rig.idp.then(pair_answer(f"refresh-{number}"))
            body = {"user": f"u-{number}", "provider": "mikomo", "code": "code"}
            assert (await control.ask("POST", "/grants", body=body)).status == 201
        cut = await run_grants(capsys, control, "list", "--limit", "3", "--json")
        whole = await run_grants(capsys, control, "list", "--limit", "3", "--all", "--json")
        fitting = await run_grants(capsys, control, "list", "--limit", "5", "--json")

    assert len(cut.documents) == 3
    assert cut.err == "only the first 3 are shown; --all shows every one\n"
    assert sorted(each["user"] for each in whole.documents) == [f"u-{n}" for n in range(5)]
    assert (len(fitting.documents), fitting.err, whole.err) == (5, "", "")


async def test_an_operator_refreshes_invalidates_and_revokes(capsys: Capsys) -> None:
    """The three verbs do what the API does, and say the state that follows."""
    script = (pair_answer("refresh-0"), pair_answer("refresh-1"))
    revoked_answer = Answered(status=200, body=b"", content_type="", retry_after_s=None)
    async with running_control(*script, revoked_answer) as control:
        body = {"user": "u-1", "provider": "mikomo", "code": "code"}
        await control.ask("POST", "/grants", body=body)
        refreshed = await run_grants(capsys, control, "refresh", *OWNER, "--json")
        revoked = await run_grants(capsys, control, "revoke", *OWNER)
        ended = await run_grants(capsys, control, "show", *OWNER, "--json")
        dead = await run_grants(capsys, control, "refresh", *OWNER)
        body = {"user": "u-2", "provider": "mikomo", "code": "code"}
        control.rig.idp.then(pair_answer("refresh-2"))
        await control.ask("POST", "/grants", body=body)
        invalid = await run_grants(capsys, control, "invalidate", "mikomo", "u-2", "--json")

    assert refreshed.documents[0]["generation"] == 1
    assert (revoked.code, revoked.out) == (DONE, "revoked\n")
    assert ended.documents[0]["state"] == "revoked"
    assert dead.code == REFUSED
    assert dead.err.startswith("401 reauth_required: The grant is dead")
    assert invalid.documents[0]["state"] == "reauth_required"


async def test_an_operator_need_not_wait_for_a_backoff(capsys: Capsys) -> None:
    """The token service is well again: the command asks it at once, an application waits."""
    busy = refusal(503, "busy", retry_after_s=500.0)
    async with running_control() as control:
        await control.onboard()
        control.rig.idp.then(busy, pair_answer("refresh-1"))
        await control.ask("POST", f"{GRANT}/refresh")
        plain = await control.ask("POST", f"{GRANT}/refresh")
        ordered = await run_grants(capsys, control, "refresh", *OWNER, "--json")

    assert plain.document["obstacle"] == "backing_off"
    assert (ordered.code, ordered.documents[0]["generation"]) == (DONE, 1)


async def test_a_grant_that_is_not_there_is_a_refusal(capsys: Capsys) -> None:
    """Exit code 1 and one sentence, or the problem itself as JSON."""
    async with running_control() as control:
        said = await run_grants(capsys, control, "show", "mikomo", "nobody")
        told = await run_grants(capsys, control, "show", "mikomo", "nobody", "--json")
        wrong = await run_grants(capsys, control, "show", "mi/komo", "u-1")

    assert (said.code, said.out) == (REFUSED, "")
    assert said.err == "404 grant_unknown: No grant is stored for this user and provider.\n"
    assert (told.code, told.documents[0]["reason"]) == (REFUSED, "grant_unknown")
    assert "provider: 1 to 128 letters" in wrong.err


async def test_a_key_that_is_not_known_has_an_exit_code_of_its_own(
    capsys: Capsys, tmp_path: Path
) -> None:
    """A script can tell a wrong key from a grant that is gone; the key is not repeated."""
    wrong = tmp_path / "key"
    wrong.write_text("no-key-of-this-sidecar-no-key-of-it")
    async with running_control() as control:
        said = await run_grants(capsys, control, "list", "--key-file", str(wrong))

    assert (said.code, said.out) == (KEY_REFUSED, "")
    assert said.err == "the sidecar does not know this control key\n"


@pytest.mark.parametrize("text", [OTHER_KEY, f"{OTHER_KEY}\n", f"back-office:{OTHER_KEY},{KEYS}"])
async def test_a_key_file_holds_a_key_or_what_the_variable_holds(
    capsys: Capsys, tmp_path: Path, text: str
) -> None:
    """Whatever file an operator has at hand works, and wins over the environment."""
    file = tmp_path / "key"
    file.write_text(text)
    async with running_control() as control:
        said = await run_grants(capsys, control, "list", "--key-file", str(file))

    assert said.code == DONE
    assert [event.client for event in control.completed] == ["back-office"]


async def test_a_unix_socket_is_asked_like_a_port(capsys: Capsys, tmp_path: Path) -> None:
    """A control listener without a port is reached by its path."""
    path = str(tmp_path / "control.sock")
    async with running_control() as control:
        await control.onboard()
        listener = await listen(control.api.runner, address=UnixAddress(path=path))
        said = await run_grants(capsys, 1, "list", "--control", f"unix:{path}", "--json")
        await listener.close()

    assert [grant["user"] for grant in said.documents] == ["u-1"]


async def test_where_nobody_listens_is_told(capsys: Capsys) -> None:
    """Exit code 69 and the address, so that a script waits instead of giving up."""
    said = await run_grants(capsys, free_port(), "list")

    assert said.code == UNAVAILABLE
    assert said.err.startswith("no answer from the control listener at 127.0.0.1:")


async def test_a_sidecar_that_cannot_just_now_is_told_apart(capsys: Capsys) -> None:
    """A 503 ends with 69 like no answer at all: the same command may succeed soon."""
    async with running_control() as control:
        control.rig.store.is_available = False
        said = await run_grants(capsys, control, "show", *OWNER)

    assert said.code == UNAVAILABLE
    assert said.err.startswith("503 token_unavailable: ")


@pytest.mark.parametrize(
    ("words", "environ", "told"),
    [
        (["list"], {"SIDECAR_CONTROL_KEYS": ""}, "SIDECAR_CONTROL_KEYS: is required"),
        (["list"], {"SIDECAR_CONTROL_LISTEN": "nowhere"}, "SIDECAR_CONTROL_LISTEN: must be host"),
        (["list", "--control", "ftp://127.0.0.1:1"], {}, "--control: must be host:port"),
        (["list", "--control", "10.0.0.1:8081"], {}, "--control: is beyond this machine"),
        (["list", "--control", "http://10.0.0.1:8081"], {}, "--control: is beyond this machine"),
        (["list", "--key-file", "/nowhere/key"], {}, "--key-file: is empty, too large or cannot"),
        (
            ["list", "--control", "https://10.0.0.1:8081", "--ca-file", "/nowhere/ca"],
            {},
            "--ca-file: holds no certificates",
        ),
    ],
)
async def test_what_is_missing_is_named_before_anybody_is_asked(
    capsys: Capsys, words: list[str], environ: dict[str, str], told: str
) -> None:
    """Exit code 78 and the name of the option or variable; a key never leaves in plain text."""
    said = await run_grants(capsys, 1, *words, environ=environ)

    assert (said.code, said.out) == (MISCONFIGURED, "")
    assert said.err.startswith(told)
    assert CONTROL_KEY not in said.err
