"""A person connects a bank: from the link to the bank, and back to the app."""

from __future__ import annotations

import asyncio
import re
from typing import Final

import pytest

from sidecar.domain.events import CommitAnswer, ConnectOutcome, PairCommitted
from sidecar.domain.failure import Operation
from sidecar.domain.wire import Broken, NotSent, TokenReply
from sidecar.http.connect_pages import WORDS
from sidecar.ports import StoreUnavailable
from sidecar.service.connects import Ending
from tests.support.connect_rig import (
    APP,
    CODE,
    CONNECT_URL,
    IDP_URL,
    RETURN_TO,
    back_in,
    onward_in,
    path_of,
    proof_in,
    query_of,
    running_connect,
)
from tests.support.control_rig import GRANT, Got
from tests.support.scripted_idp import ISSUED_AT_S, field_of, id_token, pair_answer, refusal
from tests.support.wait import until

STRICT: Final = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


def assert_strict(page: Got) -> None:
    """Nothing is kept, told to others, framed, loaded or run."""
    assert STRICT.items() <= dict(page.headers).items()
    policy = page.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "frame-ancestors 'none'" in policy
    assert "base-uri 'none'" in policy
    assert "<script" not in page.text
    assert "u-1" not in page.text


async def test_a_person_connects_a_bank() -> None:
    """Link, page, button, Akoya, back: the grant stands, and the app is told with its own URL."""
    async with running_connect(pair_answer("refresh-0")) as rig:
        browser = rig.browser()
        link = await rig.link(account="Anna at <Example>")

        shown = await browser.ask("GET", path_of(link))
        sent_on = await browser.ask("POST", path_of(link), form={"proof": proof_in(shown)})
        asked = onward_in(sent_on)
        done = await browser.come_back(query_of(asked)["state"])
        grant = await rig.control.ask("GET", GRANT)

    assert [page.status for page in (shown, sent_on, done)] == [200] * 3
    for page in (shown, sent_on, done):
        assert_strict(page)
    assert "mikomo" in shown.text
    assert "Anna at &lt;Example&gt;" in shown.text
    assert "form-action 'self'" in shown.headers["Content-Security-Policy"]
    assert asked.startswith(f"{IDP_URL}/auth?")
    assert query_of(asked) == {
        "connector": "mikomo",
        "client_id": "client-1",
        "redirect_uri": f"{CONNECT_URL}/callback",
        "response_type": "code",
        "scope": "openid profile offline_access",
        "state": query_of(asked)["state"],
    }
    assert onward_in(done) == f"{RETURN_TO}&outcome=connected"
    assert grant.document["state"] == "active"
    (exchange,) = rig.control.rig.idp.of(Operation.OBTAIN)
    assert field_of(exchange, "code") == CODE
    assert field_of(exchange, "redirect_uri") == f"{CONNECT_URL}/callback"
    outcomes = [(visit.step, visit.outcome, visit.provider) for visit in rig.visits]
    assert outcomes == [
        ("link", "shown", "mikomo"),
        ("begin", "begun", "mikomo"),
        ("callback", "connected", "mikomo"),
    ]
    assert [visit.grant for visit in rig.visits[1:]] == [grant.document["grant"]] * 2


async def test_the_cookie_is_of_this_host_alone_and_goes_with_the_visit() -> None:
    """Script cannot read it, plain http cannot carry it, no other host can set it; it ends soon."""
    async with running_connect(pair_answer("refresh-0")) as rig:
        browser = rig.browser()
        await browser.come_back(await browser.begin(await rig.link()))

    (given,) = browser.set_cookies
    pair, _, attributes = given.partition("; ")
    assert re.fullmatch(r"__Host-connect=[0-9a-f]{32}", pair)
    assert attributes == "Path=/; Max-Age=2100; Secure; HttpOnly; SameSite=Lax"


async def test_two_banks_are_connected_side_by_side_in_one_browser() -> None:
    """A second link, opened before the first is finished, disturbs nothing."""
    async with running_connect(pair_answer("refresh-0"), pair_answer("refresh-1")) as rig:
        browser = rig.browser()
        first = await browser.begin(await rig.link())
        second = await browser.begin(await rig.link(provider="bank-2"))
        pages = [await browser.come_back(state) for state in (first, second)]
        other = await rig.control.ask("GET", "/grants/bank-2/u-1")

    assert all(onward_in(page).endswith("outcome=connected") for page in pages)
    assert other.document["state"] == "active"


async def test_looking_at_a_link_uses_nothing_up() -> None:
    """A scanner of mails, a preview, HEAD and a reload leave the link to the person."""
    async with running_connect(pair_answer("refresh-0")) as rig:
        link = await rig.link()
        scanner, browser = rig.browser(), rig.browser()
        looks = [await scanner.ask(method, path_of(link)) for method in ("HEAD", "GET", "GET")]
        first = await browser.ask("GET", path_of(link))
        again = await browser.ask("GET", path_of(link))
        pressed = await browser.ask("POST", path_of(link), form={"proof": proof_in(first)})

    assert [look.status for look in looks] == [200] * 3
    assert looks[0].text == ""
    assert proof_in(first) == proof_in(again)
    assert onward_in(pressed)


ERRORS: Final = {
    "access_denied": ConnectOutcome.DENIED,
    "server_error": ConnectOutcome.UNAVAILABLE,
    "temporarily_unavailable": ConnectOutcome.UNAVAILABLE,
    "invalid_request": ConnectOutcome.FAILED,
    "unauthorized_client": ConnectOutcome.FAILED,
    "unsupported_response_type": ConnectOutcome.FAILED,
    "invalid_scope": ConnectOutcome.FAILED,
    "something_new": ConnectOutcome.FAILED,
}


@pytest.mark.parametrize("error", ERRORS)
async def test_what_akoya_says_instead_of_a_code_is_told_in_plain_words(error: str) -> None:
    """A small page says what happened and leads back to the app, which is told the outcome."""
    outcome = ERRORS[error]
    async with running_connect() as rig:
        browser = rig.browser()
        state = await browser.begin(await rig.link())
        told = await browser.come_back(
            state, error=error, error_description="<b>canary description</b>"
        )
        grant = await rig.control.ask("GET", GRANT)

    assert_strict(told)
    assert WORDS[outcome].title in told.text
    assert WORDS[outcome].text in told.text
    assert "canary" not in told.text
    assert back_in(told) == f"{RETURN_TO}&outcome={outcome}"
    assert grant.status == 404
    known = error if error != "something_new" else "unknown"
    assert (rig.visits[-1].outcome, rig.visits[-1].reason) == (outcome, known)
    assert rig.control.rig.idp.requests == []


EXCHANGES: Final[dict[str, tuple[TokenReply, ConnectOutcome]]] = {
    "code_invalid": (
        refusal(400, "invalid_request", "Invalid or expired code parameter."),
        ConnectOutcome.EXPIRED,
    ),
    "redirect_uri_mismatch": (
        refusal(400, "invalid_request", "redirect_uri did not match URI from initial request."),
        ConnectOutcome.FAILED,
    ),
    "client_credentials_invalid": (refusal(401, "invalid_client"), ConnectOutcome.FAILED),
    "server_error": (refusal(503, "server_error"), ConnectOutcome.UNAVAILABLE),
    "unreachable": (NotSent(), ConnectOutcome.UNAVAILABLE),
    "answer_lost": (Broken(), ConnectOutcome.UNAVAILABLE),
}


@pytest.mark.parametrize("reason", EXCHANGES)
async def test_a_failed_exchange_is_told_in_plain_words(reason: str) -> None:
    """Whatever Akoya's token service says to the code, the person reads what to do, and no more."""
    reply, outcome = EXCHANGES[reason]
    async with running_connect(reply) as rig:
        browser = rig.browser()
        told = await browser.come_back(await browser.begin(await rig.link()))

    assert WORDS[outcome].text in told.text
    assert back_in(told) == f"{RETURN_TO}&outcome={outcome}"
    assert (rig.visits[-1].outcome, rig.visits[-1].reason) == (outcome, reason)
    assert CODE not in told.text


async def test_neither_a_code_nor_an_error_is_no_answer() -> None:
    """A way back without anything on it is told as a failure."""
    async with running_connect() as rig:
        browser = rig.browser()
        told = await browser.come_back(await browser.begin(await rig.link()), unrelated="1")

    assert back_in(told).endswith("outcome=failed")


async def test_an_exchange_that_takes_too_long_goes_on_behind_the_person() -> None:
    """The person goes back to the app with `pending`, and the grant comes when Akoya answers."""
    answer: asyncio.Event = asyncio.Event()

    async def late(_request: object) -> TokenReply:
        await answer.wait()
        return pair_answer("refresh-0")

    async with running_connect(late, exchange_wait_s=0.05) as rig:
        browser = rig.browser()
        told = await browser.come_back(await browser.begin(await rig.link()))
        answer.set()
        await until(lambda: bool(rig.control.rig.store.records), within_s=10, what="the grant")

    assert onward_in(told) == f"{RETURN_TO}&outcome=pending"


async def test_a_newer_consent_that_stands_is_a_connection() -> None:
    """Who consented twice at once is connected, whichever exchange was the later one."""
    async with running_connect() as rig:
        browser = rig.browser()
        states = [await browser.begin(await rig.link()) for _ in range(2)]

        async def overtaken(_request: object) -> TokenReply:
            later = id_token(issued_at_s=ISSUED_AT_S + 10)
            rig.control.rig.idp.steps.appendleft(pair_answer("refresh-1", bearer=later))
            await browser.come_back(states[1])
            return pair_answer("refresh-0")

        rig.control.rig.idp.then(overtaken)
        told = await browser.come_back(states[0])

    (superseded,) = [
        event
        for event in rig.control.rig.parts.observer.of(PairCommitted)
        if event.answer is CommitAnswer.SUPERSEDED
    ]
    assert superseded.grant == rig.visits[-1].grant
    assert onward_in(told).endswith("outcome=connected")


@pytest.mark.parametrize("step", ["link", "begin", "callback"])
async def test_a_store_that_is_away_costs_the_person_a_reload(step: str) -> None:
    """503 with Retry-After at every step, and the very same request works once it is back."""
    async with running_connect(pair_answer("refresh-0")) as rig:
        store, browser = rig.control.rig.store, rig.browser()
        link = await rig.link()
        path, form = path_of(link), None
        if step != "link":
            form = {"proof": proof_in(await browser.ask("GET", path))}
        if step == "callback":
            sent_on = await browser.ask("POST", path, form=form)
            path = f"/callback?code={CODE}&state={query_of(onward_in(sent_on))['state']}"
            form = None
        method = "POST" if form else "GET"
        store.is_available = False
        away = await browser.ask(method, path, form=form)
        store.is_available = True
        back = await browser.ask(method, path, form=form)

    assert away.status == 503
    assert int(away.headers["Retry-After"]) > 0
    assert "Nothing is lost" in away.text
    assert back.status == 200
    assert [visit.outcome for visit in rig.visits][-2] == "postponed"


async def test_a_store_that_fails_at_the_button_leaves_the_link() -> None:
    """What cannot be kept for the way back is not used up on the way there."""
    async with running_connect() as rig:
        store, browser = rig.control.rig.store, rig.browser()
        link = await rig.link()
        form = {"proof": proof_in(await browser.ask("GET", path_of(link)))}

        async def full(*_arguments: object, **_options: object) -> None:
            raise StoreUnavailable("OutOfMemoryError")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(store, "deposit", full)
            away = await browser.ask("POST", path_of(link), form=form)
        back = await browser.ask("POST", path_of(link), form=form)

    assert (away.status, back.status) == (503, 200)


async def test_a_code_that_was_not_sent_can_be_brought_again() -> None:
    """An obstacle between the state and the exchange puts the state back: a reload goes on."""
    async with running_connect(pair_answer("refresh-0")) as rig:
        browser = rig.browser()
        state = await browser.begin(await rig.link())
        spool = rig.control.rig.spool
        spool.fails = True
        away = await browser.come_back(state)
        spool.fails = False
        back = await browser.come_back(state)

    assert (away.status, rig.visits[-2].reason) == (503, "spool_away")
    assert onward_in(back).endswith("outcome=connected")


async def test_a_draining_sidecar_sends_people_to_another_one() -> None:
    """A visit during the drain is told to reload; nothing is used up."""
    async with running_connect() as rig:
        browser = rig.browser()
        link = await rig.link()
        rig.site.drain()
        await rig.site.drained()
        told = await browser.ask("GET", path_of(link))

    assert (told.status, told.headers["Connection"]) == (503, "close")
    assert rig.visits[-1].outcome == "turned_away"


async def test_visits_beyond_the_limit_are_turned_away() -> None:
    """A flood of visits costs 503s and not the memory of the sidecar."""
    async with running_connect(max_in_flight=0) as rig:
        told = await rig.browser().ask("GET", path_of(await rig.link()))

    assert (told.status, told.headers["Retry-After"]) == (503, "2")


async def test_a_fault_is_told_without_its_text() -> None:
    """What breaks inside is a page of plain words, a line for the operator, and no detail."""
    async with running_connect() as rig:
        rig.control.rig.store.deposits = None  # type: ignore[assignment]
        link = f"{CONNECT_URL}/connect/{'0' * 32}"
        told = await rig.browser().ask("GET", path_of(link))

    assert told.status == 500
    assert "NoneType" not in told.text
    assert (rig.visits[-1].outcome, rig.visits[-1].status) == ("fault", 500)


def test_every_outcome_has_its_words() -> None:
    """No visit that is answered ends on an empty page."""
    assert set(WORDS) == set(ConnectOutcome) - {ConnectOutcome.CLIENT_GONE}
    assert {words.status for outcome, words in WORDS.items() if outcome.is_told} == {200}


def test_the_app_is_told_where_to_look() -> None:
    """The URL of the tests is below what the tests allow."""
    assert RETURN_TO.startswith(APP)
    assert Ending(outcome=ConnectOutcome.DENIED).return_url == ""
