"""A real browser for the whole session; each test's people are new to it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.browser import ChromiumProcess


@pytest.fixture(scope="session")
def chromium_process() -> Iterator[ChromiumProcess]:
    """Start a Chromium, and end it with the session."""
    # It may still write into its profile while it ends.
    with tempfile.TemporaryDirectory(
        prefix="sidecar-chromium-", ignore_cleanup_errors=True
    ) as directory:
        process = ChromiumProcess(Path(directory))
        process.start()
        try:
            yield process
        finally:
            process.stop()
