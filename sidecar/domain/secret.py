"""A string that must not be seen: prints as ``****`` everywhere.

It does not encrypt and does not know what it holds; whoever needs the text calls `reveal`, which is
easy to search for.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NoReturn, final

MASK: Final = "****"
LARGEST_SECRET_BYTES: Final = 65536


@final
class Secret:
    """A token, key or client secret whose `repr`, `str` and format are a mask."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the text itself; call it only where it leaves for its rightful receiver."""
        return self._value

    def __repr__(self) -> str:
        return MASK

    def __str__(self) -> str:
        return MASK

    def __format__(self, spec: str) -> str:
        return MASK

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __bool__(self) -> bool:
        return bool(self._value)

    def __reduce__(self) -> NoReturn:
        message = "a secret is never pickled"
        raise TypeError(message)


@dataclass(frozen=True, slots=True)
class FiledSecret:
    """A secret, and the file from which it can be read anew, if it came from one."""

    secret: Secret
    file: str | None = field(default=None, compare=False)


def text_of_secret(content: bytes) -> str | None:
    """Return what a file with a secret holds, less its line end; ``None``: it holds none."""
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return None
    # A file of line ends alone holds nothing: "not set" would let everyone in where keys were due.
    return text.rstrip("\r\n") or None if len(content) <= LARGEST_SECRET_BYTES else None
