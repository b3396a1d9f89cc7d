"""What is told of a fault of ours: its class and its place, and nothing that it may carry."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Final


def describe_fault(error: BaseException) -> str:
    """Return an exception's class and the innermost frame of ours; never its message."""
    ours = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if _PACKAGE_ROOT in Path(frame.filename).parents
    ]
    where = f" at {Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else ""
    return f"{type(error).__name__}{where}"


_PACKAGE_ROOT: Final = Path(__file__).parent.parent
