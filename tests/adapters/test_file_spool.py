from __future__ import annotations

import errno
import os
import shutil
import stat
import statistics
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.adapters.file_spool import FileSpool
from sidecar.adapters.sealing import AesGcmSealer
from sidecar.adapters.spool_codec import encode_head, encode_record
from sidecar.adapters.system import SystemClock, SystemEntropy
from sidecar.domain.record import ClaimId
from sidecar.domain.spooled import SpoolEntry, SpoolState
from sidecar.ports import SealContext, SpoolError
from tests.support.fake_clock import FakeClock
from tests.support.spool_entries import (
    GRANT,
    OTHER_GRANT,
    answer,
    confirmed,
    fold,
    forgotten,
    intent,
    pair,
    spool_entries,
)
from tests.support.spool_rig import (
    SMALL_SEGMENT_BYTES,
    WRITTEN_AT_S,
    directory_of,
    folded,
    leave,
    opened,
    segments_of,
    state_of,
)
from tests.support.system_calls import SystemCalls, no_space


def test_a_restart_finds_what_was_written(tmp_path: Path) -> None:
    """The state, the replica's id and since when a pair is parked outlive the process."""
    entries: list[SpoolEntry] = [
        intent(),
        answer(),
        pair(5),
        pair(3, grant=OTHER_GRANT),
        confirmed(5),
    ]
    with opened(tmp_path) as spool:
        for entry in entries:
            spool.write(entry, durable=False)
        replica_id = spool.replica_id

    with opened(tmp_path) as spool:
        assert spool.state == folded(entries)
        assert spool.parked_since_s == WRITTEN_AT_S
        assert spool.replica_id == replica_id
        assert spool.adopted_directories == 0
        assert spool.unreadable_bytes == 0


@settings(max_examples=60, deadline=None)
@given(
    entries=st.lists(st.tuples(spool_entries, st.booleans()), max_size=60),
    segment_bytes=st.integers(min_value=1, max_value=600),
)
def test_a_restart_finds_the_fold_of_any_entries(
    tmp_path_factory: pytest.TempPathFactory,
    entries: list[tuple[SpoolEntry, bool]],
    segment_bytes: int,
) -> None:
    """However often the log went on in a new segment or was compacted, nothing is changed by it."""
    root = tmp_path_factory.mktemp("spool")
    with opened(root, segment_bytes=segment_bytes) as spool:
        for entry, durable in entries:
            assert spool.is_writable
            spool.write(entry, durable=durable)
        written = spool.state

    assert written == folded(entry for entry, _ in entries)
    assert state_of(root) == written


@settings(max_examples=60, deadline=None)
@given(
    entries=st.lists(st.tuples(spool_entries, st.booleans()), min_size=1, max_size=12),
    data=st.data(),
)
def test_a_log_cut_anywhere_is_a_prefix_with_every_whole_entry(
    tmp_path_factory: pytest.TempPathFactory,
    entries: list[tuple[SpoolEntry, bool]],
    data: st.DataObject,
) -> None:
    """A write that was cut short takes nothing with it, and never shows as half an entry."""
    root = tmp_path_factory.mktemp("spool")
    ends: list[int] = []
    with opened(root / "whole") as spool:
        (segment,) = segments_of(directory_of(root / "whole", spool))
        begun = len(segment.read_bytes().rstrip(b"\0"))
        for entry, durable in entries:
            spool.write(entry, durable=durable)
            ends.append(spool.log_bytes)
        image = segment.read_bytes()
    cut = data.draw(st.integers(min_value=begun, max_value=ends[-1]), label="cut")
    whole = sum(end <= cut for end in ends)

    for name, left in (("cut", image[:cut]), ("zeros", image[:cut].ljust(len(image), b"\0"))):
        directory = root / name / segment.parent.name
        directory.mkdir(parents=True)
        (directory / segment.name).write_bytes(left)
        with opened(root / name) as spool:
            found = spool.state
            assert spool.unreadable_bytes == 0

        # A record that ends in zeros is whole before its last byte is written over a zero.
        prefixes = [folded(entry for entry, _ in entries[:count]) for count in (whole, whole + 1)]
        assert found in (prefixes[:1] if name == "cut" else prefixes)


def test_only_its_owner_may_read_a_spool(tmp_path: Path) -> None:
    """Directories have mode 0700 and files 0600, whatever the umask."""
    former = os.umask(0)
    try:
        directory = leave(tmp_path / "made" / "here", [pair(5)])
    finally:
        os.umask(former)

    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "made").rglob("*")}
    assert modes[directory] == 0o700
    assert modes[tmp_path / "made" / "here"] == 0o700
    assert {modes[path] for path in directory.iterdir()} == {0o600}


def test_no_token_is_on_the_disk(tmp_path: Path) -> None:
    """What was sealed before it was given to the spool is not to be found in its files."""
    canary = b"canary-refresh-token"
    sealer = AesGcmSealer(
        keys=[("k1", bytes(32))], hash_key=bytes(32), environment="sandbox", client_id="client"
    )
    sealed = sealer.seal(canary, context=SealContext(purpose="pair", grant=GRANT))

    leave(tmp_path, [answer(sealed=sealed), pair(5, sealed_pair=sealed)])

    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert written.count(sealed) == 2
    assert canary not in written


def test_a_full_disk_is_met_before_a_claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A spool is writable while half a segment is reserved, and writes succeed; then it is not."""
    calls = SystemCalls(monkeypatch)
    with opened(tmp_path, segment_bytes=4096) as spool:
        calls.before = _no_new_blocks
        generation = 0
        while spool.is_writable:
            spool.write(pair(generation), durable=True)
            generation += 1

        assert 2048 < spool.log_bytes < 4096
        assert spool.state == folded([pair(generation - 1)])
        calls.before = lambda _name: None
    assert state_of(tmp_path) == folded([pair(generation - 1)])


def _no_new_blocks(name: str) -> None:
    if name == "posix_fallocate":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_file_system_that_cannot_reserve_is_filled_with_zeros(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where `posix_fallocate` is not to be had, space is taken by writing it."""

    def refuse(_descriptor: int, _offset: int, _length: int) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(os, "posix_fallocate", refuse)

    directory = leave(tmp_path, [pair(5)])

    (segment,) = segments_of(directory)
    assert segment.stat().st_size > 1 << 16
    assert segment.stat().st_blocks * 512 >= segment.stat().st_size
    assert state_of(tmp_path) == folded([pair(5)])


def test_a_dead_log_is_compacted(tmp_path: Path) -> None:
    """However long it runs, a spool takes little more than twice what is alive, and a segment."""
    with opened(tmp_path, segment_bytes=SMALL_SEGMENT_BYTES) as spool:
        for generation in range(500):
            spool.write(pair(generation), durable=False)
            spool.write(confirmed(generation), durable=False)
        directory = directory_of(tmp_path, spool)

        on_disk = sum(path.stat().st_size for path in segments_of(directory))
        assert on_disk < 4 * SMALL_SEGMENT_BYTES
        assert len(segments_of(directory)) <= 3
    assert state_of(tmp_path) == folded([pair(499), confirmed(499)])


def test_a_log_that_is_alive_is_not_compacted(tmp_path: Path) -> None:
    """Nothing is rewritten for a gain of less than half."""
    with opened(tmp_path, segment_bytes=SMALL_SEGMENT_BYTES) as spool:
        first = segments_of(directory_of(tmp_path, spool))[0]
        entries = [intent(ClaimId(f"{number:032x}")) for number in range(100)]
        for entry in entries:
            spool.write(entry, durable=False)

        assert first in segments_of(directory_of(tmp_path, spool))
        assert spool.log_bytes > 4 * SMALL_SEGMENT_BYTES
    assert state_of(tmp_path) == folded(entries)


def test_a_snapshot_makes_what_lies_before_it_worthless(tmp_path: Path) -> None:
    """A segment whose removal failed brings nothing back to life."""
    directory = leave(tmp_path, [])
    (snapshot,) = segments_of(directory)
    ended = encode_head() + encode_record(intent(), at_s=WRITTEN_AT_S)
    (directory / "segment-0000000000.log").write_bytes(ended)

    assert state_of(tmp_path) == SpoolState()
    assert snapshot not in segments_of(directory)
    assert len(segments_of(directory)) == 1


def test_an_entry_larger_than_a_segment_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The size of segments is no limit for an answer, and its space is reserved like any other."""
    large = answer(sealed=b"x" * 10 * SMALL_SEGMENT_BYTES)

    reserved: list[object] = []
    SystemCalls(monkeypatch).after = lambda name, arguments: (
        reserved.append(arguments[2]) if name == "posix_fallocate" else None
    )

    with opened(tmp_path, segment_bytes=SMALL_SEGMENT_BYTES) as spool:
        spool.write(intent(), durable=False)
        spool.write(large, durable=True)
        spool.write(pair(5), durable=True)

    assert any(isinstance(size, int) and size > 10 * SMALL_SEGMENT_BYTES for size in reserved)
    assert state_of(tmp_path) == folded([intent(), large, pair(5)])


def test_a_damaged_record_ends_its_segment_and_is_reported(tmp_path: Path) -> None:
    """What stands before the damage is kept, the bytes after it are counted and put aside."""
    directory = leave(tmp_path, [pair(5), pair(3, grant=OTHER_GRANT), intent()])
    (segment,) = segments_of(directory)
    image = bytearray(segment.read_bytes())
    sizes = [len(encode_record(entry, at_s=WRITTEN_AT_S)) for entry in (pair(5), intent())]
    image[24 + sizes[0] + 50] ^= 1
    segment.write_bytes(image)

    with opened(tmp_path) as spool:
        assert spool.state == folded([pair(5)])
        assert spool.unreadable_bytes == sizes[0] + sizes[1]
        assert spool.is_writable

    assert [path.read_bytes() for path in directory.glob("*.damaged")] == [bytes(image)]
    with opened(tmp_path) as spool:
        assert spool.state == folded([pair(5)])
        assert spool.unreadable_bytes == 0


def test_a_cut_write_that_was_not_the_last_is_damage(tmp_path: Path) -> None:
    """What was written later proves that no crash cut it short."""
    directory = leave(tmp_path, [])
    (snapshot,) = segments_of(directory)
    snapshot.write_bytes(encode_head() + encode_record(pair(5), at_s=WRITTEN_AT_S)[:50])
    later = encode_head() + encode_record(intent(), at_s=WRITTEN_AT_S)
    (directory / "segment-0000000099.log").write_bytes(later)

    with opened(tmp_path) as spool:
        assert spool.state == folded([intent()])
        assert spool.unreadable_bytes > 0
    assert len(list(directory.glob("*.damaged"))) == 1


def test_a_disk_that_writes_in_small_pieces_gets_all_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that takes only some bytes goes on with the rest."""
    write = os.pwrite

    def write_little(descriptor: int, data: memoryview, offset: int) -> int:
        return write(descriptor, data[:7], offset)

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", write_little)
        leave(tmp_path, [pair(5), intent()])

    assert state_of(tmp_path) == folded([pair(5), intent()])


def test_old_segments_that_cannot_be_removed_fail_no_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are worthless, and the next rewriting tries again."""
    calls = SystemCalls(monkeypatch)
    with opened(tmp_path) as spool:
        calls.before = no_space
        with pytest.raises(SpoolError):
            spool.write(pair(5), durable=True)

        calls.before = _no_removal
        spool.write(pair(6), durable=True)
        assert len(segments_of(directory_of(tmp_path, spool))) == 2
        calls.before = lambda _name: None

    assert state_of(tmp_path) == folded([pair(6)])
    assert len(list(tmp_path.glob("*/segment-*"))) == 1


def test_what_was_missed_is_written_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closing is the last attempt to mend the log."""
    calls = SystemCalls(monkeypatch)
    with opened(tmp_path) as spool:
        calls.before = no_space
        with pytest.raises(SpoolError):
            spool.write(pair(5), durable=True)
        calls.before = lambda _name: None

    assert state_of(tmp_path) == folded([pair(5)])


def test_a_full_disk_is_asked_once_a_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether a claim may leave is asked much more often than a disk needs to be tried."""
    clock = FakeClock()
    calls = SystemCalls(monkeypatch)
    spool = FileSpool.open(tmp_path, clock=clock, entropy=SystemEntropy())
    calls.before = no_space
    with pytest.raises(SpoolError):
        spool.write(pair(5), durable=True)

    tried: list[bool] = []
    for _ in range(4):
        count = calls.count
        assert not spool.is_writable
        tried.append(calls.count > count)
        clock.advance(0.5)

    assert tried == [True, False, True, False]
    calls.before = lambda _name: None
    spool.close()


def _no_removal(name: str) -> None:
    if name == "unlink":
        raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_a_segment_of_another_format_is_left_for_its_version(tmp_path: Path) -> None:
    """After a step back to an older version, what that cannot read is put aside, not removed."""
    directory = leave(tmp_path, [pair(5)])
    (segment,) = segments_of(directory)
    image = segment.read_bytes().replace(b"AKSPOOL1", b"AKSPOOL2")
    segment.write_bytes(image)

    with opened(tmp_path) as spool:
        assert spool.state == SpoolState()
        assert spool.unreadable_bytes == len(image.rstrip(b"\0"))

    assert [path.read_bytes() for path in directory.glob("*.damaged")] == [image]


def test_a_spool_that_can_be_read_and_not_written_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk at the start keeps claims back, not the pairs that must reach the store."""
    directory = leave(tmp_path, [pair(5)])
    before = segments_of(directory)[0].read_bytes()
    SystemCalls(monkeypatch).before = no_space

    with opened(tmp_path) as spool:
        assert spool.state == folded([pair(5)])
        assert not spool.is_writable

    assert segments_of(directory)[0].read_bytes() == before


def test_a_place_that_cannot_be_a_spool_is_named(tmp_path: Path) -> None:
    """Where no directory can be made, opening fails with the name of the error."""
    (tmp_path / "file").touch()

    with pytest.raises(SpoolError) as caught, opened(tmp_path / "file" / "spool"):
        pass

    assert caught.value.errno_name == "ENOTDIR"


def test_how_long_a_durable_write_takes(tmp_path: Path) -> None:
    """Every durable write is on the disk when it returns; the median is printed, not judged."""
    spans_s: list[float] = []
    spool = FileSpool.open(tmp_path, clock=SystemClock(), entropy=SystemEntropy())
    for generation in range(200):
        assert spool.is_writable
        begun_s = time.perf_counter()
        spool.write(pair(generation, sealed_pair=os.urandom(3000)), durable=True)
        spans_s.append(time.perf_counter() - begun_s)
    shutil.copytree(tmp_path, tmp_path.with_name("copy"))
    spool.close()

    assert state_of(tmp_path.with_name("copy")).pairs[GRANT].pair.generation == 199
    print(  # noqa: T201 - shown by `pytest -s`
        f"\ndurable write of 3 KB: median {statistics.median(spans_s) * 1e6:.0f} us,"
        f" worst {max(spans_s) * 1e6:.0f} us"
    )


def test_forgetting_is_kept_too(tmp_path: Path) -> None:
    """What was forgotten stays so after a restart."""
    leave(tmp_path, [pair(5), forgotten(5)])

    assert state_of(tmp_path) == fold([])
