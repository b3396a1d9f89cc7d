"""What ends the demo early: something that should have been so was not."""

from __future__ import annotations


class WalkFailed(Exception):
    """A step of the walk did not hold; the message is for the person who watches."""
