from __future__ import annotations

import json
import subprocess
import sys

import pytest

PROGRAM = """
import json, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, json.loads(sys.argv[1]))
from sidecar.adapters.descriptors import raise_descriptor_limit
told = raise_descriptor_limit()
print(json.dumps([told.was, told.limit, resource.getrlimit(resource.RLIMIT_NOFILE)]))
"""


@pytest.mark.parametrize(
    ("limits", "told"),
    [((256, 2048), [256, 2048, [2048, 2048]]), ((512, 512), [512, 512, [512, 512]])],
)
def test_the_limit_of_descriptors_is_raised_as_far_as_it_may(
    limits: tuple[int, int], told: list[object]
) -> None:
    """A process that may have more descriptors takes them, and says what it had before."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(limits)],
        check=True,
        capture_output=True,
        text=True,
    )

    assert json.loads(done.stdout) == told
