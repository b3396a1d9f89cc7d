from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sidecar.adapters.spool_directory import ReplicaDirectory
from sidecar.domain.record import ReplicaId
from sidecar.domain.spooled import RevocationOrdered, RevocationSettled, SpoolEntry, SpoolState
from sidecar.ports import SpoolError
from tests.support.spool_entries import (
    CLAIM,
    CONSENT,
    GRANT,
    OTHER_GRANT,
    confirmed,
    intent,
    pair,
)
from tests.support.spool_rig import directory_of, folded, leave, opened, segments_of, state_of
from tests.support.wait import until

_OWNER = """
import sys
from pathlib import Path
from tests.support.spool_entries import pair
from tests.support.spool_rig import opened

with opened(Path(sys.argv[1])) as spool:
    spool.write(pair(5), durable=True)
    print(spool.replica_id, flush=True)
    sys.stdin.read()
"""


@contextmanager
def _owner(root: Path) -> Generator[tuple[subprocess.Popen[str], ReplicaId]]:
    """Yield a process that owns a directory with one pair, and the directory's replica."""
    process = subprocess.Popen(
        [sys.executable, "-c", _OWNER, str(root)],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": "."},  # noqa: TID251 - a child inherits it
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdin, process.stdout:
        try:
            yield process, ReplicaId(process.stdout.readline().strip())
        finally:
            process.kill()
            process.wait()


def _has_stopped(process: subprocess.Popen[str]) -> bool:
    status = Path(f"/proc/{process.pid}/stat").read_text()
    return status.rpartition(")")[2].split()[0] == "T"


def test_two_spools_never_own_one_directory(tmp_path: Path) -> None:
    """Whoever comes second, in this process or another, gets a directory of its own."""
    with opened(tmp_path) as first, opened(tmp_path) as second, _owner(tmp_path) as (_, third):
        first.write(pair(5), durable=True)

        assert len({first.replica_id, second.replica_id, third}) == 3
        assert second.state == SpoolState()
        assert second.adopted_directories == 0


async def test_a_stopped_owner_keeps_its_directory(tmp_path: Path) -> None:
    """A process that is stopped, for however long, is not dead: nobody takes its spool."""
    with _owner(tmp_path) as (process, replica_id):
        process.send_signal(signal.SIGSTOP)
        await until(lambda: _has_stopped(process), within_s=30, what="the owner to stop")

        with opened(tmp_path) as spool:
            assert spool.replica_id != replica_id
            assert spool.state == SpoolState()
            assert spool.adopted_directories == 0

        process.send_signal(signal.SIGCONT)


def test_a_killed_owner_leaves_its_directory_and_its_name(tmp_path: Path) -> None:
    """The next to start has what the dead one wrote, and may act in its name."""
    with _owner(tmp_path) as (process, replica_id):
        process.kill()
        process.wait()

        with opened(tmp_path) as spool:
            assert spool.replica_id == replica_id
            assert spool.state == folded([pair(5)])


def test_every_unowned_directory_is_adopted(tmp_path: Path) -> None:
    """The newest of what several dead owners had is ours; their directories are gone."""
    order = RevocationOrdered(grant=GRANT, consent=CONSENT)
    left: list[list[SpoolEntry]] = [
        [pair(5), confirmed(5), order],
        [pair(6), intent()],
        [pair(4), pair(1, grant=OTHER_GRANT)],
    ]
    _leave_each(tmp_path, left)

    with opened(tmp_path) as spool:
        assert spool.state == folded([pair(6), intent(), order, pair(1, grant=OTHER_GRANT)])
        assert spool.adopted_directories == 2
        assert list(tmp_path.iterdir()) == [directory_of(tmp_path, spool)]


def test_an_adopted_intent_stays_its_owners(tmp_path: Path) -> None:
    """The store knows the claim by the replica that began it, whatever directory it lies in now."""
    _leave_each(tmp_path, [[pair(5)], [intent()]])

    with opened(tmp_path) as spool:
        assert spool.state.intents[CLAIM].replica_id == intent().replica_id
        assert spool.replica_id != intent().replica_id
    assert state_of(tmp_path).intents[CLAIM].replica_id == intent().replica_id


def _leave_each(root: Path, left: list[list[SpoolEntry]]) -> None:
    """Leave one directory for each list of entries; the first is the first to be owned."""
    for count, entries in enumerate(left):
        alone = root.parent / f"alone-{count}"
        directory = leave(alone, entries)
        root.mkdir(exist_ok=True)
        directory.rename(root / f"replica-{count:032x}")


def test_the_end_of_something_in_one_directory_ends_nothing_in_another(tmp_path: Path) -> None:
    """Each log is read for itself: an order given again elsewhere is not settled by it."""
    order = RevocationOrdered(grant=GRANT, consent=CONSENT)
    settled = RevocationSettled(grant=GRANT, consent=CONSENT)
    _leave_each(tmp_path, [[order], [order, settled]])

    assert state_of(tmp_path) == folded([order])


def test_damaged_segments_of_adopted_directories_are_kept(tmp_path: Path) -> None:
    """What could not be read of a dead owner's log moves to ours, earlier such finds included."""
    _leave_each(tmp_path, [[pair(5)], [pair(6)]])
    images: set[bytes] = set()
    for directory in sorted(tmp_path.iterdir()):
        (segment,) = segments_of(directory)
        segment.write_bytes(segment.read_bytes().replace(b"AKSPOOL1", b"AKSPOOL9"))
        images.add(segment.read_bytes())
        (directory / f"{directory.name}-earlier.damaged").write_bytes(directory.name.encode())
        images.add(directory.name.encode())

    with opened(tmp_path) as spool:
        assert spool.unreadable_bytes > 0
        kept = directory_of(tmp_path, spool).glob("*.damaged")
        assert {path.read_bytes() for path in kept} == images
        assert len(list(tmp_path.iterdir())) == 1


def test_a_directory_that_is_removed_while_we_lock_it_is_not_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock of a directory that its owner has removed meanwhile locks nothing."""
    directory = leave(tmp_path, [])
    lock = fcntl.flock

    def removed_by_its_owner(descriptor: int, operation: int) -> None:
        (directory / "lock").rename(tmp_path / "removed")
        (directory / "lock").touch()
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", removed_by_its_owner)

    assert ReplicaDirectory.seize(directory) is None


def test_what_is_no_replicas_directory_is_left_alone(tmp_path: Path) -> None:
    """A mount point has other things in it: they are neither read nor removed."""
    for name in ("lost+found", "replica-of-something", "replica-" + "G" * 32):
        (tmp_path / name).mkdir()

    with opened(tmp_path) as spool:
        assert spool.adopted_directories == 0

    assert {"lost+found", "replica-of-something"} < {path.name for path in tmp_path.iterdir()}


def test_a_directory_that_cannot_be_adopted_stops_the_start(tmp_path: Path) -> None:
    """Pairs that only this disk has must not be passed over in silence."""
    _leave_each(tmp_path, [[pair(5)], [pair(6)]])
    first, second = sorted(tmp_path.iterdir())
    (second / "lock").unlink()
    (second / "lock").mkdir()

    with pytest.raises(SpoolError) as caught, opened(tmp_path):
        pass

    assert caught.value.errno_name == "EISDIR"
    (second / "lock").rmdir()
    with opened(tmp_path) as spool:
        assert f"replica-{spool.replica_id}" == first.name
        assert spool.state == folded([pair(6)])


def test_a_segment_that_cannot_be_read_stops_nothing(tmp_path: Path) -> None:
    """A bad sector costs what lies on it, and says so; the rest of the log is read."""
    directory = leave(tmp_path, [pair(5)])
    (directory / "segment-0000000099.log").mkdir()  # reading a directory fails as a bad disk does

    with opened(tmp_path) as spool:
        assert spool.state == folded([pair(5)])
        assert spool.unreadable_bytes > 0
        assert spool.is_writable
