"""A killed sidecar delivers nothing any more, also where its request was stuck in a partition."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
CUT_S = "6"


@pytest.mark.system
@pytest.mark.timeout(240)
def test_a_request_in_a_partition_dies_with_its_process() -> None:
    """H13: cut, send, kill, mend after six seconds: an ordinary request arrives, a claim never."""
    as_nobody = () if os.geteuid() == 0 else ("--user", "--map-root-user")
    command = [sys.executable, "-m", "tests.support.late_delivery", CUT_S]

    done = subprocess.run(
        ["unshare", *as_nobody, "--net", *command], cwd=REPOSITORY, capture_output=True, check=False
    )

    assert done.returncode == 0, done.stderr.decode()
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["held_after_the_kill"] == 1, "the kernel keeps the ordinary request alone"
    assert seen["arrived"] == ["ordinary"]
