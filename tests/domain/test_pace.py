from __future__ import annotations

from sidecar.domain.pace import Pace


def test_a_body_is_waited_for_as_a_whole() -> None:
    """Each byte gives a little time, and a byte every five seconds gives too little."""
    pace = Pace(grace_s=10, bytes_per_s=500)

    assert pace.patience_s(received_bytes=0, waited_s=0) == 10
    assert pace.patience_s(received_bytes=5000, waited_s=10) == 10
    assert pace.patience_s(received_bytes=2, waited_s=10) < 0.01
    assert pace.patience_s(received_bytes=0, waited_s=11) == -1
