"""The status page and `GET /status`: who may see them, what they say, and that it is the same."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Sequence
from dataclasses import replace
from html import unescape

import pytest
from prometheus_client.parser import text_string_to_metric_families

from sidecar.console.status import main
from sidecar.domain import events as ev
from sidecar.domain.events import BreakerName, Event, Outcome
from sidecar.domain.failure import DISPOSITIONS, HINTS, FailureReason, Operation
from sidecar.domain.record import GrantId
from sidecar.domain.throttle import BrakeCause, CountRefusal, PullBrake
from sidecar.domain.tokens import TokenFailure
from sidecar.http.status_answers import STYLE, to_page, to_status_document
from sidecar.service.health import Phase
from sidecar.service.status import Check, CheckName, Mood, Status, Trouble
from sidecar.service.status_board import MOST_TROUBLES, StatusBoard
from sidecar.telemetry.logging import Level, Log
from sidecar.telemetry.metrics import Metrics, MetricsPage
from sidecar.telemetry.observer import TelemetryObserver
from tests.console.terminal import KEYS
from tests.support.control_rig import CONTROL_KEY, GRANT, ControlRig, Got, running_control
from tests.support.fake_clock import FakeClock
from tests.support.lines import KeptLines
from tests.support.stores import Unheard

GRANT_ID = GrantId("0a" * 16)
REFUSED = (
    "refused: client_credentials_invalid; token requests of the fleet stop but for one at a time"
)
NASTY = "<script>alert(1)</script>\"'&"


def basic(password: str, *, name: str = "anybody") -> dict[str, str]:
    credentials = base64.b64encode(f"{name}:{password}".encode()).decode()
    return {"Authorization": f"Basic {credentials}"}


def failed(
    reason: FailureReason, *, provider: str = "mikomo", retry_in_s: float | None = None
) -> ev.TokenRequestFailed:
    failure = TokenFailure(
        operation=Operation.REFRESH, reason=reason, disposition=DISPOSITIONS[reason]
    )
    return ev.TokenRequestFailed(
        grant=GRANT_ID, provider=provider, failure=failure, retry_in_s=retry_in_s
    )


def checks_of(got: Got) -> dict[str, tuple[str, str]]:
    return {each["name"]: (each["mood"], each["said"]) for each in got.document["checks"]}


async def test_any_name_with_a_control_key_opens_the_page() -> None:
    """A browser sends what it can, and the name is nobody's business."""
    async with running_control() as control:
        answers = [
            await control.ask("GET", "/", headers=basic(CONTROL_KEY, name=name), key=None)
            for name in ("", "anybody", "operator")
        ]
        by_bearer = await control.ask("GET", "/")
        head = await control.ask("HEAD", "/", headers=basic(CONTROL_KEY), key=None)

    assert {got.status for got in (*answers, by_bearer, head)} == {200}
    assert {got.headers["Content-Type"] for got in answers} == {"text/html; charset=utf-8"}
    assert head.text == ""
    assert [event.route for event in control.completed] == ["GET /"] * 5


@pytest.mark.parametrize(
    "headers",
    [
        {},
        basic(f"{CONTROL_KEY}x"),
        basic("", name=CONTROL_KEY),
        {"Authorization": "Basic"},
        {"Authorization": "Basic ###"},
        {"Authorization": "Basic " + base64.b64encode(b"\xff:\xff").decode()},
        {"Authorization": "Basic " + base64.b64encode(CONTROL_KEY.encode()).decode()},
    ],
    ids=range(7),
)
async def test_without_a_key_the_page_asks_for_one(headers: dict[str, str]) -> None:
    """401 with a challenge that makes a browser ask, and nothing of the state."""
    async with running_control() as control:
        got = await control.ask("GET", "/", headers=headers, key=None)

    assert (got.status, got.document["reason"]) == (401, "control_key_invalid")
    assert got.headers["WWW-Authenticate"].startswith("Basic ")
    assert "checks" not in got.text


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/"),
        ("GET", "/status"),
        ("GET", "/grants"),
        ("POST", "/brake/release"),
        ("POST", f"{GRANT}/refresh"),
        ("DELETE", GRANT),
    ],
)
async def test_a_password_opens_nothing_but_the_page(method: str, path: str) -> None:
    """A browser that remembers it cannot be made to change anything by another site."""
    async with running_control() as control:
        await control.onboard()
        await control.rig.store.throttle(PullBrake())
        got = await control.ask(method, path, headers=basic(CONTROL_KEY), key=None)

    assert (got.status, got.document["reason"]) == (401, "control_key_invalid")
    assert got.headers["WWW-Authenticate"].startswith("Bearer ")
    assert control.rig.store.held_back.is_braked


async def test_the_page_lets_nothing_run_and_loads_nothing() -> None:
    """A strict policy, whose one exception is the very style sheet of the page."""
    async with running_control() as control:
        got = await control.ask("GET", "/")

    policy = got.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert f"<style>{STYLE}</style>" in got.text
    assert not re.search(r"<(script|img|link|iframe|form|a) |javascript:|url\(|src=", got.text)
    assert '<meta http-equiv="refresh" content="10">' in got.text
    assert '<meta name="viewport" content="width=device-width' in got.text
    assert got.headers["Cache-Control"] == "no-store"


async def test_where_all_is_well_the_page_says_so() -> None:
    """Each thing that is looked at is there, in words."""
    async with running_control(keeps_house=True) as control:
        await control.onboard()
        page = await control.ask("GET", "/")
        told = await control.ask("GET", "/status")

    assert list(checks_of(told)) == [name.value for name in CheckName]
    assert {mood for mood, _ in checks_of(told).values()} <= {"good", "waiting"}
    assert "Nothing needs you" in page.text
    assert "Another sidecar of the fleet counts them." in page.text
    assert "None since the start." in page.text


async def in_trouble(control: ControlRig) -> None:
    """Let everything go wrong at once."""
    told = control.board.observe
    told(ev.GrantsCounted(is_ours=True, active=3, in_doubt=2, reauth_required=1))
    told(ev.SpoolMeasured(is_writable=True, entries=5, parked=0, oldest_parked_at_s=0.0))
    told(failed(FailureReason.REFRESH_TOKEN_CLAIMED, retry_in_s=30.0))
    told(ev.ProviderBreakerOpened(provider=NASTY, reason=FailureReason.SERVER_ERROR))
    told(
        ev.BreakerOpened(
            name=BreakerName.CREDENTIALS, reason=FailureReason.CLIENT_CREDENTIALS_INVALID
        )
    )
    told(ev.BrakePulled(cause=BrakeCause.DENIALS, grants=6))
    told(failed(FailureReason.UNREACHABLE, provider=NASTY))
    store = control.rig.store
    for _ in range(2):
        refusal = CountRefusal(reason=FailureReason.CLIENT_CREDENTIALS_INVALID, canary_ms=60000)
        await store.throttle(refusal)
    await store.throttle(PullBrake())
    await control.rig.parts.claim_parts.restraints.brake.look()
    control.rig.store.is_available = False
    await control.rig.parts.watch.probe()


async def test_page_document_and_command_say_the_same(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One account, rendered three times: nothing is on one of them alone."""
    async with running_control() as control:
        await in_trouble(control)
        told = (await control.ask("GET", "/status")).document
        page = unescape((await control.ask("GET", "/")).text)
        environ = {
            "SIDECAR_CONTROL_LISTEN": f"127.0.0.1:{control.port}",
            "SIDECAR_CONTROL_KEYS": KEYS,
        }
        code, printed = await command(capsys, environ)

    assert code == 1
    for check in told["checks"]:
        for text in (check["said"], check["hint"] or ""):
            assert text in page
            assert text in printed
    for error in told["token_errors"]:
        for name in ("at", "reason", "provider", "hint"):
            assert error[name] in page
            assert error[name] in printed
    assert told["grants"]["in_doubt"] == 2
    assert "<dt>in_doubt</dt><dd>2</dd>" in page
    assert re.search(r"^in_doubt +2$", printed, re.MULTILINE)


async def command(
    capsys: pytest.CaptureFixture[str], environ: dict[str, str], *words: str
) -> tuple[int, str]:
    capsys.readouterr()
    code = await asyncio.to_thread(main, words, environ)
    return code, capsys.readouterr().out


async def test_every_trouble_is_told_with_what_to_do() -> None:
    """Whoever looks at three in the morning reads whose fault it is, and what to do."""
    async with running_control() as control:
        await in_trouble(control)
        told = await control.ask("GET", "/status")

    assert checks_of(told) == {
        "process": ("good", "serving"),
        "store": ("bad", "no answer: reset"),
        "akoya": ("bad", "the last token request: unreachable"),
        "credentials": (
            "bad",
            REFUSED,
        ),
        "banks": ("bad", f"{NASTY} (server_error)"),
        "brake": ("bad", "on, because of denials"),
        "spool": ("good", "0 pairs only here, 5 kept"),
        "claims": ("good", "0 in flight"),
    }
    bad = [each for each in told.document["checks"] if each["mood"] == "bad"]
    assert all(each["hint"] for each in bad)
    assert [each["hint"] for each in told.document["token_errors"]] == [
        HINTS[FailureReason.UNREACHABLE],
        HINTS[FailureReason.REFRESH_TOKEN_CLAIMED],
    ]
    assert [each["retry_in_s"] for each in told.document["token_errors"]] == [None, 30.0]


async def test_no_text_of_the_page_is_markup() -> None:
    """Whatever a bank is called, a browser shows it and does nothing else with it."""
    async with running_control() as control:
        await in_trouble(control)
        page = (await control.ask("GET", "/")).text

    assert "<script" not in page
    assert page.count("&lt;script&gt;") == 2


async def test_nothing_secret_and_nobody_is_named() -> None:
    """Neither a token nor a key nor a user is on the page: a grant is its keyed hash."""
    async with running_control() as control:
        await control.onboard("canary-refresh")
        control.board.observe(failed(FailureReason.REFRESH_TOKEN_CLAIMED))
        both = [(await control.ask("GET", path)).text for path in ("/", "/status")]

    for text in both:
        assert GRANT_ID in text
        assert "canary" not in text
        assert "u-1" not in text


async def test_a_parameter_is_refused_as_everywhere() -> None:
    """A misspelt call is told so, on the page too."""
    async with running_control() as control:
        answers = [await control.ask("GET", path) for path in ("/?x=1", "/status?x=1")]

    assert [got.status for got in answers] == [400, 400]


async def test_akoya_is_heard_again() -> None:
    """Any answer of the token service ends the alarm, also one that refuses a token."""
    async with running_control() as control:
        said: list[tuple[str, str]] = []
        for event in (
            failed(FailureReason.ANSWER_LOST),
            ev.TokenRequestEnded(operation=Operation.REFRESH, outcome=Outcome.OK, duration_s=0.1),
            failed(FailureReason.SERVER_ERROR),
            failed(FailureReason.REFRESH_TOKEN_CLAIMED),
        ):
            control.board.observe(event)
            said.append(checks_of(await control.ask("GET", "/status"))["akoya"])

    assert [mood for mood, _ in said] == ["bad", "good", "bad", "good"]
    assert said[1][1] == "answered 0 s ago"


def gauges(page: MetricsPage) -> dict[str, float]:
    text = page.render("")[0].decode()
    return {
        f"{sample.name}{sorted(sample.labels.values())}": sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_the_metrics_and_the_account_are_of_the_same_events() -> None:
    """A dashboard and the page never contradict one another."""
    metrics = Metrics(version="1.2.3")
    log = Log(KeptLines(), least=Level.ERROR)
    board = StatusBoard(behind=TelemetryObserver(metrics=metrics, log=log), clock=FakeClock())
    told: Sequence[Event] = (
        ev.GrantsCounted(is_ours=True, active=3, in_doubt=2),
        ev.SpoolMeasured(is_writable=True, entries=5, parked=1, oldest_parked_at_s=7.0),
        ev.ProviderBreakerOpened(provider="mikomo", reason=FailureReason.SERVER_ERROR),
        ev.ProviderBreakerOpened(provider="other-bank", reason=FailureReason.SERVER_ERROR),
        ev.ProviderBreakerClosed(provider="other-bank"),
        failed(FailureReason.REFRESH_TOKEN_CLAIMED),
        failed(FailureReason.REFRESH_TOKEN_CLAIMED),
    )
    for event in told:
        board.observe(event)

    notes, shown = board.notes(), gauges(MetricsPage(metrics.registry))
    assert notes.grants is not None
    for state, count in notes.grants.items():
        assert shown[f"sidecar_grants['{state}']"] == count
    assert shown["sidecar_spool_entries[]"] == notes.spooled
    assert shown["sidecar_spool_oldest_timestamp_seconds[]"] == notes.oldest_parked_at_s
    banks = {bank for bank in ("mikomo", "other-bank") if bank in notes.banks}
    assert {
        bank
        for bank in ("mikomo", "other-bank")
        if shown[f"sidecar_provider_breaker_open['{bank}']"]
    } == banks
    errors = "sidecar_token_errors_total['in_doubt', 'mikomo', 'refresh', 'refresh_token_claimed']"
    assert shown[errors] == len(notes.troubles)


def test_only_the_newest_troubles_are_kept() -> None:
    """A night of failures does not fill the memory, and the page stays short."""
    clock = FakeClock()
    board = StatusBoard(behind=Unheard(), clock=clock)

    for number in range(MOST_TROUBLES + 5):
        clock.advance(1.0)
        board.observe(failed(FailureReason.SERVER_ERROR, provider=f"bank-{number}"))

    kept = board.notes().troubles
    assert len(kept) == MOST_TROUBLES
    assert kept[0].provider == f"bank-{MOST_TROUBLES + 4}"
    assert kept[0].at_s == clock.wall_s


def test_grants_of_another_counter_are_not_shown_as_ours() -> None:
    """Where another sidecar of the fleet took over the count, old numbers go."""
    board = StatusBoard(behind=Unheard(), clock=FakeClock())

    board.observe(ev.GrantsCounted(is_ours=True, active=3))
    ours = board.notes().grants
    board.observe(ev.GrantsCounted(is_ours=False))

    assert ours is not None
    assert ours["active"] == 3
    assert board.notes().grants is None


STATUS = Status(
    version=NASTY,
    phase=Phase.SERVING,
    at_s=1_700_000_000.0,
    checks=(),
    grants={NASTY: 1},
    counted_at_s=1_700_000_000.0,
    troubles=(
        Trouble(
            at_s=1_700_000_000.0,
            operation=Operation.REFRESH,
            reason=FailureReason.UNKNOWN,
            provider=NASTY,
            grant=GrantId(NASTY),
        ),
    ),
)


def test_every_text_that_the_page_is_given_is_escaped() -> None:
    """Escaping is the page's own business and trusts nobody."""
    text = to_page(STATUS).text

    assert "<script" not in text
    assert "&quot;&#x27;&amp;" in text
    assert text.count("&lt;script&gt;") == 4


def test_a_check_that_is_bad_is_in_the_title() -> None:
    """A tab among many shows that something is wrong."""
    bad = Check(name=CheckName.STORE, mood=Mood.BAD, said="no answer", hint="Look.")

    assert "<title>\u2713 Akoya sidecar</title>" in to_page(STATUS).text
    assert "<title>\u2717 Akoya sidecar</title>" in to_page(replace(STATUS, checks=(bad,))).text
    assert to_status_document(STATUS)["at"] == "2023-11-14T22:13:20Z"


def test_the_style_is_small() -> None:
    """The page is one answer that fits into a few packets."""
    assert len(to_page(STATUS).body()) < 6000
