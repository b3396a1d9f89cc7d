from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from tests.model.runs import MODEL, SOURCE, Run, Verdict, read_runs
from tests.model.search import read_verdict, search
from tests.model.trail import tell

RUNS: Final = {run.name: run for run in read_runs()}

QUICK: Final = (
    "i10_without_crash", "i12_known_failover",
    "h1_fenced", "h2_no_spool", "h2_drop_on_ack", "h3_no_quarantine", "h4_no_drain",
    "h6_one_phase", "h7_order_unkept", "h8_forget_born", "h8_serve_born", "h8_finish_any",
    "h8_deny_any", "h9_no_epoch", "h9_order_bare", "h9_known_bare", "h31_clean_any",
)  # fmt: skip
"""Runs of a second or two; `make model` does them all."""

TEXT: Final = (MODEL / SOURCE).read_text("utf-8")
DEFAULTS: Final = dict(re.findall(r"^#ifndef (\w+)\n#define \1 (\d+)$", TEXT, re.MULTILINE))
HOLES: Final = dict(re.findall(r"^ \*   (\w+) +(h\d+): ", TEXT, re.MULTILINE))


@pytest.mark.system
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", QUICK)
def test_a_search_finds_what_its_line_says(name: str, tmp_path: Path) -> None:
    """The protocol holds, and a hole that is put back is found, in every order of steps."""
    run = RUNS[name]

    found = search(run, tmp_path)

    assert found.verdict == run.expected, found.output


@pytest.mark.system
@pytest.mark.timeout(300)
def test_a_trail_tells_who_did_what_until_the_invariant_broke(tmp_path: Path) -> None:
    """Whoever breaks the model can read the story: steps in words of the code, and positions."""
    run = RUNS["h4_no_drain"]
    search(run, tmp_path)

    story = tell(run, tmp_path)

    assert "sidecar 1 idle claims (0,0) has on disk (1,2), order 0" in story
    assert story.count("\nsidecar ") >= 5


@pytest.mark.parametrize("name", RUNS)
def test_a_run_says_what_it_is_about_and_uses_switches_that_there_are(name: str) -> None:
    """Its name begins with the invariant it asks for, or with a hole that it puts back."""
    run = RUNS[name]
    subject = name.partition("_")[0]
    put_back = {HOLES[switch] for switch in run.switches if switch in HOLES}

    assert set(run.switches) <= DEFAULTS.keys()
    assert subject.upper() in run.asks or subject in put_back
    assert not run.expected.broken or run.expected.broken in run.asks


def test_every_hole_of_the_model_is_put_back_and_found() -> None:
    """A switch that no run uses, or that a run survives, guards nothing."""
    found = {switch for run in RUNS.values() if run.expected.broken for switch in run.switches}

    assert set(HOLES) <= DEFAULTS.keys()
    assert set(HOLES) <= found


def test_every_invariant_that_can_be_asked_holds_in_some_run() -> None:
    """What is only ever broken was perhaps never true."""
    askable = set(re.findall(r"#ifdef CHECK_(I\d+)", TEXT))
    held = {invariant for run in RUNS.values() if not run.expected.broken for invariant in run.asks}

    assert held == askable


@pytest.mark.parametrize(
    ("output", "verdict"),
    [
        ("State-vector 100 byte, errors: 0\n", Verdict()),
        ("pan:1: assertion violated i8 (at depth 9)\nerrors: 1\n", Verdict(broken="I8")),
        ("pan:1: assertion violated ((a>b)||i12) (at depth 9)\nerrors: 1", Verdict(broken="I12")),
        ("error: max search depth too small\nerrors: 0\n", None),
        ("pan: reached -DMEMLIM bound\nerrors: 0\n", None),
        ("pan:1: invalid end state (at depth 9)\nerrors: 1\n", None),
        ("killed", None),
    ],
)
def test_a_search_that_was_cut_short_says_nothing(output: str, verdict: Verdict | None) -> None:
    """Only a whole search may say that something holds, and only an invariant that it broke."""
    assert read_verdict(output) == verdict


def test_switches_reach_the_checker_as_they_stand_in_the_table() -> None:
    """What is checked is what the line says."""
    run = Run(
        name="i8_x", asks=("I8",), switches={"N": 3, "KNOWN": 1}, expected=Verdict(), states=1
    )

    assert run.defines == ["-DCHECK_I8", "-DN=3", "-DKNOWN=1"]
