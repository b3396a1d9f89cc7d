"""A secret in a file that is read again when the file changes, so that a rotation needs no restart.

A changed file is told by its time, its size and its inode, through symbolic links: Kubernetes swaps
a link to change a mounted secret. What cannot be used leaves the former secret in use. It does not
know what the secret is for.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import final

from sidecar.domain.events import ClientSecretRead
from sidecar.domain.secret import LARGEST_SECRET_BYTES, Secret, text_of_secret
from sidecar.ports import Observer


@final
class SecretFile:
    """The secret of one file; `current` is cheap enough for each use."""

    def __init__(
        self, path: Path, *, first: Secret, accepts: Callable[[str], bool], observer: Observer
    ) -> None:
        """Start with the secret that was read before; the first use looks at the file again."""
        self._path = path
        self._secret = first
        self._accepts = accepts
        self._observer = observer
        self._seen: tuple[int, int, int] | None = (0, 0, 0)

    def current(self) -> Secret:
        """Return the secret as the file has it now, or had it when it last could be used."""
        seen = self._look()
        if seen != self._seen:
            self._seen = seen
            self._take()
        return self._secret

    def _look(self) -> tuple[int, int, int] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino

    def _take(self) -> None:
        try:
            with self._path.open("rb") as file:
                text = text_of_secret(file.read(LARGEST_SECRET_BYTES + 1))
        except OSError:
            text = None
        is_usable = text is not None and self._accepts(text)
        if text is not None and is_usable:
            if Secret(text) == self._secret:
                return
            self._secret = Secret(text)
        self._observer.observe(ClientSecretRead(is_usable=is_usable))
