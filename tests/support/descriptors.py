"""Leaves this process without a free file descriptor, for a while."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
from collections.abc import Generator


@contextlib.contextmanager
def no_descriptors_left() -> Generator[None]:
    """Take every descriptor that the process may still open; give them back at the end."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [os.open(os.devnull, os.O_RDONLY)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (taken[0] + 8, hard))
    try:
        while True:
            try:
                taken.append(os.dup(taken[0]))
            except OSError as error:
                if error.errno != errno.EMFILE:
                    raise
                break
        yield
    finally:
        for number in taken:
            os.close(number)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
