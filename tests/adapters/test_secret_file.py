from __future__ import annotations

import os
from pathlib import Path

import pytest

from sidecar.adapters.secret_file import SecretFile
from sidecar.domain.events import ClientSecretRead
from sidecar.domain.secret import Secret
from sidecar.settings.forms import VISIBLE
from tests.support.sidecar_parts import RecordingObserver


def _opened(path: Path, first: str, observer: RecordingObserver) -> SecretFile:
    return SecretFile(
        path,
        first=Secret(first),
        accepts=lambda text: VISIBLE.fullmatch(text) is not None,
        observer=observer,
    )


@pytest.fixture
def observer() -> RecordingObserver:
    """Hears what is told."""
    return RecordingObserver()


def test_a_file_that_stays_as_it_is_is_told_of_by_nobody(
    tmp_path: Path, observer: RecordingObserver
) -> None:
    """The secret of the start is the secret of each use, without a line of the log."""
    path = tmp_path / "secret"
    path.write_text("first\n")
    file = _opened(path, "first", observer)

    assert [file.current(), file.current()] == [Secret("first")] * 2
    assert observer.events == []


def test_a_changed_file_is_read_again(tmp_path: Path, observer: RecordingObserver) -> None:
    """A rotation needs no restart, and what is told of it holds no secret."""
    path = tmp_path / "secret"
    path.write_text("first")
    file = _opened(path, "first", observer)
    file.current()

    path.write_text("the-second\n")

    assert file.current() == Secret("the-second")
    assert observer.events == [ClientSecretRead(is_usable=True)]


def test_a_swapped_link_is_a_change(tmp_path: Path, observer: RecordingObserver) -> None:
    """Kubernetes mounts a secret behind links and swaps one, to a file of the same size."""
    for name, text in (("one", "aaaa"), ("two", "bbbb")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "secret").write_text(text)
        os.utime(folder / "secret", ns=(1, 1))
    (tmp_path / "data").symlink_to("one")
    (tmp_path / "secret").symlink_to("data/secret")
    file = _opened(tmp_path / "secret", "aaaa", observer)
    file.current()

    (tmp_path / "new").symlink_to("two")
    (tmp_path / "new").rename(tmp_path / "data")

    assert file.current() == Secret("bbbb")


def test_a_secret_that_changed_between_the_settings_and_the_first_use_is_seen(
    tmp_path: Path, observer: RecordingObserver
) -> None:
    """The first use looks at the file, whatever the start had read."""
    path = tmp_path / "secret"
    path.write_text("second")

    assert _opened(path, "first", observer).current() == Secret("second")


@pytest.mark.parametrize("content", [b"", b"two words", b"\xff\xfe", b"x" * 70_000, b"\n"])
def test_what_is_no_secret_leaves_the_former_one_in_use(
    tmp_path: Path, observer: RecordingObserver, content: bytes
) -> None:
    """A file that is written anew may be empty for a moment: it is told once, and read again."""
    path = tmp_path / "secret"
    path.write_text("first")
    file = _opened(path, "first", observer)
    file.current()

    path.write_bytes(content)
    former = [file.current(), file.current()]
    path.unlink()
    gone = file.current()
    path.write_text("second")

    assert former == [Secret("first")] * 2
    assert gone == Secret("first")
    assert file.current() == Secret("second")
    told = [event.is_usable for event in observer.of(ClientSecretRead)]
    assert told == [False, False, True]
