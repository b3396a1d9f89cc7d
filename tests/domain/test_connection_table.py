from __future__ import annotations

import pytest

from sidecar.domain.connection_table import ConnectionTable, DropCause, PeerPatience, Stage

Table = ConnectionTable[str]


def table(*, most: int = 3, has_streams: bool = False, most_held_bytes: int = 100) -> Table:
    patience = PeerPatience(head_s=10, stalled_s=30, slow_s=5, has_streams=has_streams)
    return ConnectionTable(most=most, patience=patience, most_held_bytes=most_held_bytes)


def entered(*stages: tuple[str, Stage, float], has_streams: bool = False) -> Table:
    filled = table(has_streams=has_streams)
    for name, stage, at_s in stages:
        filled.enter(name, stage, now_s=at_s)
    return filled


def test_a_table_is_full_with_as_many_as_it_may_have() -> None:
    """Each connection counts once, whatever stages it goes through, until it leaves."""
    three = entered(("a", Stage.IDLE, 0), ("a", Stage.BUSY, 1), ("b", Stage.HANDSHAKE, 2))
    assert (len(three), three.is_full, three.stage_of("a")) == (2, False, Stage.BUSY)

    three.enter("c", Stage.IDLE, now_s=3)
    assert three.is_full
    three.leave("b")
    three.leave("b")

    assert (len(three), three.is_full, three.stage_of("b")) == (2, False, None)


@pytest.mark.parametrize(
    ("stages", "going"),
    [
        # What lies idle goes first, the oldest of it.
        ([("a", Stage.HEAD, 0), ("b", Stage.IDLE, 1), ("c", Stage.IDLE, 2)], "b"),
        ([("a", Stage.IDLE, 0), ("b", Stage.IDLE, 1), ("a", Stage.IDLE, 2)], "b"),
        # Then what is slow.
        ([("a", Stage.BUSY, 0), ("b", Stage.HEAD, 8), ("c", Stage.IDLE, 9.5)], "b"),
        ([("a", Stage.HANDSHAKE, 8), ("c", Stage.IDLE, 9.5)], "a"),
        ([("a", Stage.CLOSING, 8), ("c", Stage.IDLE, 9.5)], "a"),
        ([("a", Stage.BODY, 4), ("c", Stage.IDLE, 9.5)], "a"),
        ([("a", Stage.STALLED, 4), ("c", Stage.IDLE, 9.5)], "a"),
        # What is young goes before a body that is not slow.
        ([("a", Stage.BODY, 6), ("c", Stage.IDLE, 9.5)], "c"),
        ([("a", Stage.STALLED, 6), ("c", Stage.HEAD, 9.5)], "c"),
        # Nobody's answer is given up.
        ([("a", Stage.BUSY, 0), ("b", Stage.BUSY, 0)], None),
    ],
)
def test_who_wants_something_goes_last(
    stages: list[tuple[str, Stage, float]], going: str | None
) -> None:
    """A new connection takes the place of one that lies idle or is slow."""
    assert entered(*stages).make_room(now_s=10) == going


@pytest.mark.parametrize("stage", [Stage.BODY, Stage.STALLED])
def test_a_running_stream_is_given_up_for_nobody(stage: Stage) -> None:
    """Where bodies are large, one that is not slow stays; where they are small, it goes."""
    stages = ("a", stage, 6.0)

    assert entered(stages, has_streams=True).make_room(now_s=10) is None
    assert entered(stages, has_streams=False).make_room(now_s=10) == "a"


def test_progress_makes_a_body_young_again() -> None:
    """It goes after those that stand still."""
    three = entered(("a", Stage.BODY, 0), ("b", Stage.BODY, 1), ("a", Stage.BODY, 9))

    assert three.make_room(now_s=10) == "b"


def test_each_stage_has_its_time() -> None:
    """What is late is told with its cause; what waits for us is never late."""
    late = entered(
        ("handshake", Stage.HANDSHAKE, 0),
        ("head", Stage.HEAD, 0),
        ("young head", Stage.HEAD, 1),
        ("stalled", Stage.STALLED, -20),
        ("closing", Stage.CLOSING, -20),
        ("busy", Stage.BUSY, -9999),
        ("body", Stage.BODY, -9999),
        ("idle", Stage.IDLE, -9999),
    ).late(now_s=10)

    assert dict(late) == {
        "handshake": DropCause.HANDSHAKE,
        "head": DropCause.SLOW_HEAD,
        "stalled": DropCause.SLOW_READER,
        "closing": DropCause.SLOW_READER,
    }


def test_unfinished_requests_share_what_they_may_hold() -> None:
    """When all of them hold too much, the oldest goes, and its share is free again."""
    held = table(most_held_bytes=100)
    for name in ("a", "b", "c"):
        held.enter(name, Stage.HEAD, now_s=0)

    assert [held.hold("a", 40), held.hold("b", 40), held.hold("a", 50)] == [None] * 3
    assert held.hold("c", 11) == "a"
    held.leave("a")
    assert held.hold("c", 60) is None
    assert held.hold("b", 0) is None
    assert held.hold("c", 101) == "c"
