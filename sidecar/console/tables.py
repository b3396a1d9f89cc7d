"""Tables for a terminal: columns in line, and no control character of any value.

It does not know what is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

GAP: Final = "  "
NOTHING: Final = "-"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return lines with a heading, columns in line; a cell without text is shown as ``-``."""
    lines = [[plain(cell) or NOTHING for cell in row] for row in (columns, *rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(columns))]
    return "".join(f"{_line(line, widths)}\n" for line in lines)


def plain(text: str) -> str:
    """Return a text of which a terminal only shows what it says: escapes become ``?``."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
    return GAP.join(padded).rstrip()
