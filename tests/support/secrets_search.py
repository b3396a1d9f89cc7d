"""Whether a secret lies in some bytes, plain or in a usual encoding, and which tokens there are.

It must not know where the bytes come from.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import quote_plus

import pytest

from sidecar.sandbox.id_tokens import IdTokenSigner
from sidecar.sandbox.ids import new_code, new_refresh_token

_BEGINNING: Final = 12
_UNWRITTEN: Final = re.compile(rb"\0{64,}")
"""What a spool has reserved of its disk."""


@contextmanager
def every_token() -> Generator[list[str]]:
    """Gather every token and code that sandboxes give away meanwhile, as they do."""
    given: list[str] = []

    def noting(make: Any) -> Any:
        def make_and_note(*values: Any, **options: Any) -> str:
            made: str = make(*values, **options)
            given.append(made)
            return made

        return make_and_note

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(IdTokenSigner, "sign", noting(IdTokenSigner.sign))
        patch.setattr("sidecar.sandbox.grants.new_refresh_token", noting(new_refresh_token))
        patch.setattr("sidecar.sandbox.grants.new_code", noting(new_code))
        yield given


def telling_parts(tokens: Iterable[str]) -> list[str]:
    """Return tokens whole, and the parts of a JWT that say whose it is."""
    whole = list(tokens)
    return [*whole, *(part for token in whole for part in token.split(".")[1:])]


def found_in(text: bytes, secrets: Iterable[str]) -> list[str]:
    """Return those that are in the text, plain or in a usual encoding; reads the text once."""
    looked_for: dict[bytes, list[tuple[bytes, str]]] = {}
    for secret in secrets:
        for spelling in spellings(secret):
            looked_for.setdefault(spelling[:_BEGINNING], []).append((spelling, secret))
    text = _UNWRITTEN.sub(b"", text)
    sizes = {len(beginning) for beginning in looked_for}
    found: dict[str, None] = {}
    for size in sizes:
        for at in range(len(text) - size + 1):
            for spelling, secret in looked_for.get(text[at : at + size], ()):
                if text.startswith(spelling, at):
                    found[secret] = None
    return list(found)


def spellings(secret: str) -> Iterator[bytes]:
    """Return the ways in which a secret may lie in a text; base64 at each of its alignments."""
    raw = secret.encode()
    yield from (raw, quote_plus(secret).encode(), raw.hex().encode())
    for shift in range(3):
        # The first and last characters mix with their neighbours' bits.
        yield base64.b64encode(b"\0" * shift + raw)[4:-4]
