from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.adapters.sealing import AesGcmSealer
from sidecar.adapters.spool_codec import encode_head, encode_record
from sidecar.domain.sealing import SealContext
from sidecar.domain.spooled import SpoolEntry, SpoolState
from sidecar.ports import SpoolError
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
    WRITTEN_AT_S,
    directory_of,
    folded,
    leave,
    opened,
    segments_of,
    state_of,
)


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


def test_a_snapshot_makes_what_lies_before_it_worthless(tmp_path: Path) -> None:
    """A segment whose removal failed brings nothing back to life."""
    directory = leave(tmp_path, [])
    (snapshot,) = segments_of(directory)
    ended = encode_head() + encode_record(intent(), at_s=WRITTEN_AT_S)
    (directory / "segment-0000000000.log").write_bytes(ended)

    assert state_of(tmp_path) == SpoolState()
    assert snapshot not in segments_of(directory)
    assert len(segments_of(directory)) == 1


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


def test_a_place_that_cannot_be_a_spool_is_named(tmp_path: Path) -> None:
    """Where no directory can be made, opening fails with the name of the error."""
    (tmp_path / "file").touch()

    with pytest.raises(SpoolError) as caught, opened(tmp_path / "file" / "spool"):
        pass

    assert caught.value.errno_name == "ENOTDIR"


def test_forgetting_is_kept_too(tmp_path: Path) -> None:
    """What was forgotten stays so after a restart."""
    leave(tmp_path, [pair(5), forgotten(5)])

    assert state_of(tmp_path) == fold([])
