"""How the operators' commands end: exit codes to script against, those of sysexits if possible."""

from __future__ import annotations

from typing import Final

DONE: Final = 0
"""What was asked for is so; of `doctor`: nothing was found."""
REFUSED: Final = 1
"""The sidecar answered with a problem, which is printed; of `doctor`: something was found."""
PARTLY_FAILED: Final = 65
"""Some lines of an import failed, which are printed; the others are stored (EX_DATAERR)."""
UNAVAILABLE: Final = 69
"""No sidecar answered, or it has no time for this now (EX_UNAVAILABLE)."""
KEY_REFUSED: Final = 77
"""The sidecar does not know the control key (EX_NOPERM)."""
MISCONFIGURED: Final = 78
"""No sidecar was asked: address, key or file are not given or wrong (EX_CONFIG)."""
