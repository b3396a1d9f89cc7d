"""Watches the calls by which files change, so that a test can fail or stop the world before each.

`SystemCalls` hands every such call to a function of the test first; `PowerCut` remembers what
was synced, and so what a disk holds after the power failed. Only what goes through ``os`` is seen.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final, final

import pytest

_CALLS: Final = (
    "open",
    "mkdir",
    "pwrite",
    "posix_fallocate",
    "fdatasync",
    "fsync",
    "rename",
    "unlink",
    "rmdir",
)


@final
class SystemCalls:
    """Every call that changes files below `root`, or may.

    Attributes:
        before: Called with the name of each call before it is made; may raise in its place.
        after: Called with name and arguments of each call that was made.
        count: How many calls there were.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.before: Callable[[str], None] = lambda _name: None
        self.after: Callable[[str, tuple[object, ...]], None] = lambda _name, _arguments: None
        self.count = 0
        self._is_inside = False
        for name in _CALLS:
            monkeypatch.setattr(os, name, self._watched(name, getattr(os, name)))

    def unwatched(self, work: Callable[[], None]) -> None:
        """Do something of the test's own that is neither counted nor made to fail."""
        was_inside, self._is_inside = self._is_inside, True
        try:
            work()
        finally:
            self._is_inside = was_inside

    def _watched(self, name: str, original: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **options: object) -> object:
            if self._is_inside:
                return original(*arguments, **options)
            self._is_inside = True
            try:
                self.count += 1
                self.before(name)
                answer = original(*arguments, **options)
                self.after(name, arguments)
                return answer
            finally:
                self._is_inside = False

        return call


@final
class Faults:
    """Makes calls fail: from the one numbered `first` on, for `span` calls.

    Attributes:
        hit: The names of the calls that failed.
    """

    def __init__(self, *, first: int, span: int, error_number: int) -> None:
        self.hit: list[str] = []
        self._seen = 0
        self._failing = range(first, first + span)
        self._error_number = error_number

    def __call__(self, name: str) -> None:
        """Fail the call if it is its turn."""
        self._seen += 1
        if self._seen - 1 in self._failing:
            self.hit.append(name)
            raise OSError(self._error_number, os.strerror(self._error_number))


def no_space(name: str) -> None:
    """Fail every call that needs room, as a full disk does."""
    if name in {"pwrite", "posix_fallocate", "fdatasync", "mkdir"}:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@final
class PowerCut:
    """What of `root` survives a power failure, at the worst. `close` it at the end.

    A file's bytes are those of its last sync. A directory's names are those of its last sync, or,
    when `keeps_names`, those it has: a disk may be quick with names and slow with bytes.
    """

    def __init__(self, root: Path, *, keeps_names: bool) -> None:
        self._root = root
        self._keeps_names = keeps_names
        # Whatever is remembered stays open, or the number of a removed file would name another.
        self._pinned = ExitStack()
        self._bytes: dict[int, bytes] = {}
        self._names: dict[int, dict[str, int]] = {}
        self._directories: set[int] = set()
        for path in (root, *root.rglob("*")):
            self._remember(path)

    def note(self, name: str, arguments: tuple[object, ...]) -> None:
        """Take note of a call that was made (see `SystemCalls.after`)."""
        if name in {"fdatasync", "fsync"}:
            self._remember(Path(f"/proc/self/fd/{arguments[0]}"))

    def close(self) -> None:
        """Let every file go."""
        self._pinned.close()

    def image(self, copy: Path) -> None:
        """Write to `copy`, which must not be there, what the disk holds."""
        copy.mkdir()
        if self._keeps_names:
            for path in (self._root, *self._root.rglob("*")):
                if path.is_dir():
                    self._remember(path)
        self._restore(self._root.stat().st_ino, copy)

    def _remember(self, path: Path) -> None:
        node = self._pin(path)
        if path.is_dir():
            self._directories.add(node)
            self._names[node] = {child.name: self._pin(child) for child in path.iterdir()}
            self._directories |= {child.stat().st_ino for child in path.iterdir() if child.is_dir()}
        else:
            self._bytes[node] = path.read_bytes()

    def _pin(self, path: Path) -> int:
        descriptor = os.open(path, os.O_RDONLY)
        self._pinned.callback(os.close, descriptor)
        return os.fstat(descriptor).st_ino

    def _restore(self, node: int, copy: Path) -> None:
        for name, child in self._names.get(node, {}).items():
            if child in self._directories:
                (copy / name).mkdir()
                self._restore(child, copy / name)
            else:
                (copy / name).write_bytes(self._bytes.get(child, b""))


def copy_tree(root: Path, copy: Path) -> None:
    """Copy what a killed process leaves: everything it wrote, synced or not."""
    shutil.copytree(root, copy)
