"""What the demo prints: headlines, facts that held, and what a person can type."""

from __future__ import annotations

from typing import TextIO, final


@final
class Screen:
    """Short lines; coloured where a person watches."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_coloured = stream.isatty()
        self._step = 0

    def step(self, headline: str) -> None:
        """Begin the next part of the walk."""
        self._step += 1
        self._line(f"\n{self._paint('1', f'{self._step}. {headline}')}")

    def held(self, fact: str) -> None:
        """Tell something that was checked and is so."""
        self._line(f"   {self._paint('32', '✓')} {fact}")

    def fail(self, fact: str) -> None:
        """Tell something that should have been so."""
        self._line(f"   {self._paint('31', '✗')} {fact}")

    def tell(self, text: str) -> None:
        """Tell something that is just said."""
        self._line(f"   {text}")

    def quote(self, text: str) -> None:
        """Show somebody else's words, or what a person can type."""
        for line in text.splitlines():
            self._line(f"     {self._paint('2', line)}")

    def _paint(self, colour: str, text: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._is_coloured else text

    def _line(self, text: str) -> None:
        self._stream.write(f"{text}\n")
        self._stream.flush()
