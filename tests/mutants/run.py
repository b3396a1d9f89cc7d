"""`make mutants`: puts each failure of the failure model back and expects its test to notice.

Works on copies of the tree, two at a time; the tree itself is never changed. First every test runs
on an unchanged copy, since a test that fails anyway notices nothing. Exits 1 where a mutation
survives, no longer applies, or breaks something else than its test.
"""

from __future__ import annotations

import argparse
import compileall
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from py_compile import PycInvalidationMode
from queue import SimpleQueue
from typing import Final, final
from xml.etree import ElementTree as ET

from tests.mutants.mutation import ROOT, CodeMoved, Mutation, all_mutations

AT_ONCE: Final = 2
PATIENCE_S: Final = 150.0
LEFT_OUT: Final = shutil.ignore_patterns(
    ".git", ".venv", ".hypothesis", ".import_linter_cache", "*_cache", "__pycache__", "build",
    "dist", "secrets", "sidecar.env",
)  # fmt: skip
SLOW: Final = "tests/promises/"
"""Real processes; they come first, so that none of them runs alone at the end."""

MISTAKES: Final = ("SyntaxError", "ImportError", "ModuleNotFoundError", "NameError")
"""What a mutation that is no program raises; a test that trips over it shows nothing."""

PYTEST: Final = (
    *("-m", "pytest", "-q", "-x", "-p", "no:randomly", "-p", "no:cacheprovider"),
    *("-o", "junit_family=xunit1"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """How the tests went.

    Attributes:
        failures: What each failed test said first.
        trouble: Why the tests could not be run, or "".
        took_s: Time it took.
    """

    failures: Sequence[str]
    trouble: str
    took_s: float


@final
class Copy:
    """A copy of the tree, in which one mutation at a time is made."""

    def __init__(self, directory: Path) -> None:
        self._root = directory / "tree"
        self._report = directory / "report.xml"
        shutil.copytree(ROOT, self._root, ignore=LEFT_OUT, symlinks=True)
        # Recognised by content: a change and its undoing may bear the same second.
        compileall.compile_dir(
            self._root / "sidecar",
            quiet=2,
            workers=1,
            invalidation_mode=PycInvalidationMode.CHECKED_HASH,
        )

    def try_out(self, mutation: Mutation) -> Run:
        """Make the change, run its test, and undo the change."""
        path = self._root / mutation.file
        before = path.read_bytes()
        path.write_text(mutation.applied(self._root), "utf-8")
        try:
            return self.run([mutation.killed_by])
        finally:
            path.write_bytes(before)

    def run(self, tests: Sequence[str]) -> Run:
        """Run tests on the copy as it stands."""
        self._report.unlink(missing_ok=True)
        began_s = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, *PYTEST, f"--junitxml={self._report}", *tests],
            cwd=self._root,
            env=_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            output, _ = process.communicate(timeout=PATIENCE_S * len(tests))
        except subprocess.TimeoutExpired:
            output = b"it did not end"
        finally:
            _end(process)
        return self._read(output.decode(errors="replace"), took_s=time.monotonic() - began_s)

    def _read(self, output: str, *, took_s: float) -> Run:
        if not self._report.exists():
            return Run(failures=(), trouble=output, took_s=took_s)
        report = ET.parse(self._report).getroot()  # noqa: S314 - pytest wrote it just now
        errors = [error.get("message", "") for error in report.iter("error")]
        failures = [failure.get("message", "") for failure in report.iter("failure")]
        mistakes = [said for said in failures if said.startswith(MISTAKES)]
        ran = any(True for _ in report.iter("testcase"))
        trouble = "; ".join(errors + mistakes) or ("" if ran else output)
        return Run(failures=failures, trouble=trouble, took_s=took_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of one mutation; `complaint` is "" where its test noticed it."""

    mutation: Mutation
    complaint: str
    said: str = ""
    took_s: float = 0.0

    def line(self) -> str:
        """Return the row of the table."""
        mutation = self.mutation
        test = mutation.test.rpartition("::")[2]
        told = self.complaint or f"{test}: {self.said}"
        return f"{mutation.scenario:>8}  {mutation.name:<46}  {self.took_s:>5.1f} s  {told}"


def judge(mutation: Mutation, copy: Copy) -> Verdict:
    """Try one mutation out."""
    try:
        run = copy.try_out(mutation)
    except CodeMoved as moved:
        return Verdict(mutation=mutation, complaint=f"MOVED: {moved}")
    complaint = ""
    if run.trouble:
        complaint = f"BROKEN, nothing is shown: {run.trouble}"
    elif not run.failures:
        complaint = f"SURVIVED {mutation.killed_by}: {mutation.failure}"
    said = next(iter(run.failures), "").partition("\n")[0][:80]
    return Verdict(mutation=mutation, complaint=complaint, said=said, took_s=run.took_s)


def main() -> int:
    """Try every mutation out; return 0 if each was noticed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="beginnings of the names to try; all, if none")
    chosen = parser.parse_args().names
    mutations = [
        mutation
        for mutation in all_mutations()
        if not chosen or mutation.name.startswith(tuple(chosen))
    ]
    with tempfile.TemporaryDirectory(prefix="akoya-sidecar-mutants-") as directory:
        copies: SimpleQueue[Copy] = SimpleQueue()
        for number in range(AT_ONCE):
            place = Path(directory) / str(number)
            place.mkdir()
            copies.put(Copy(place))
        verdicts = _changed(mutations, copies) if _unchanged(mutations, copies) else []
    survivors = [verdict for verdict in verdicts if verdict.complaint]
    _line(f"{len(verdicts) - len(survivors)} of {len(mutations)} mutations were noticed")
    return 0 if verdicts and not survivors else 1


def _unchanged(mutations: Sequence[Mutation], copies: SimpleQueue[Copy]) -> bool:
    """Return whether every test passes where nothing is changed."""
    tests = sorted({mutation.killed_by for mutation in mutations})

    def run(part: Sequence[str]) -> Run:
        copy = copies.get()
        try:
            return copy.run(part)
        finally:
            copies.put(copy)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        runs = list(pool.map(run, filter(None, (tests[part::AT_ONCE] for part in range(AT_ONCE)))))
    for run_ in runs:
        if run_.trouble or run_.failures:
            _line(f"FAILS WITHOUT A MUTATION: {run_.trouble or run_.failures[0]}")
    took_s = max((run_.took_s for run_ in runs), default=0.0)
    _line(f"{len(tests)} tests without a mutation: {took_s:.1f} s")
    return not any(run_.trouble or run_.failures for run_ in runs)


def _changed(mutations: Sequence[Mutation], copies: SimpleQueue[Copy]) -> list[Verdict]:
    _line(f"{'scenario':>8}  {'mutation':<46}  {'took':>7}  noticed by")

    def run(mutation: Mutation) -> Verdict:
        copy = copies.get()
        try:
            verdict = judge(mutation, copy)
        finally:
            copies.put(copy)
        _line(verdict.line())
        return verdict

    slow_first = sorted(mutations, key=lambda mutation: SLOW not in mutation.killed_by)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(run, slow_first))


def _environment() -> dict[str, str]:
    """Return ours, but for what another tree could be imported by."""
    environment = dict(os.environ)  # noqa: TID251 - of the tests, not of the sidecar
    environment.pop("PYTHONPATH", None)
    return environment


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the tests and whatever they left running."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _line(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
