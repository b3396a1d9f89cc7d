"""Which cause an error of redis-py, of a socket or of TLS has; the only place that reads them.

An ended connection raises whatever the loop and the version of Python happen to raise: uvloop a
`RuntimeError`, asyncio an `AttributeError` or a `TypeError` on what it has already let go. So the
methods of a connection are wrapped, in which nothing of ours runs, and only those: a fault of ours
stays a fault.
"""

from __future__ import annotations

import asyncio
import errno
import re
import socket
import ssl
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Final

from redis.exceptions import (
    AskError,
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    MaxConnectionsError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from sidecar.adapters.redis_codec import RecordUnreadable
from sidecar.adapters.redis_verdicts import ReplyUnreadable
from sidecar.domain.store_trouble import StoreTrouble

UNREADABLE: Final = (RecordUnreadable, ReplyUnreadable)
NEWER_SCHEMA: Final = "SIDECARSCHEMA"
"""How the scripts begin the error about a record of a newer sidecar."""

SERVER_FULL: Final = "max number of clients reached"
_NUMBER: Final = re.compile(r"\[Errno (\d+)\]")
"""In the text of an error that stands for several, one for each address that was tried."""

_FORBIDDEN_IN_SCRIPTS: Final = ("The user executing the script can't", "ACL failure in script")
"""How Redis and Valkey begin, without a word of its own, what a script may not do."""

_CODES: Final = {
    "NOREPLICAS": StoreTrouble.NOREPLICAS,
    "MISCONF": StoreTrouble.MISCONF,
    "BUSY": StoreTrouble.BUSY,
    "UNKILLABLE": StoreTrouble.BUSY,
    "NOAUTH": StoreTrouble.NOAUTH,
    "WRONGPASS": StoreTrouble.WRONGPASS,
    "NOPERM": StoreTrouble.NOPERM,
    "OOM": StoreTrouble.OOM,
    "READONLY": StoreTrouble.READONLY,
    "LOADING": StoreTrouble.LOADING,
    "MASTERDOWN": StoreTrouble.MASTERDOWN,
    "CLUSTERDOWN": StoreTrouble.CLUSTERDOWN,
}
_KINDS: Final[tuple[tuple[type[RedisError], StoreTrouble], ...]] = (
    (NoPermissionError, StoreTrouble.NOPERM),
    (OutOfMemoryError, StoreTrouble.OOM),
    (ReadOnlyError, StoreTrouble.READONLY),
    (BusyLoadingError, StoreTrouble.LOADING),
    (ClusterDownError, StoreTrouble.CLUSTERDOWN),
    (MasterDownError, StoreTrouble.MASTERDOWN),
    (TryAgainError, StoreTrouble.MOVING),
    (AskError, StoreTrouble.MOVING),  # MOVED as well
    (AuthenticationError, StoreTrouble.WRONGPASS),
    (MaxConnectionsError, StoreTrouble.POOL),
    (RedisTimeoutError, StoreTrouble.TIMEOUT),
)
_NUMBERS: Final = {
    errno.ECONNREFUSED: StoreTrouble.REFUSED,
    errno.ENOENT: StoreTrouble.REFUSED,
    errno.EACCES: StoreTrouble.REFUSED,
    errno.EMFILE: StoreTrouble.DESCRIPTORS,
    errno.ENFILE: StoreTrouble.DESCRIPTORS,
    errno.ENETUNREACH: StoreTrouble.UNREACHABLE,
    errno.EHOSTUNREACH: StoreTrouble.UNREACHABLE,
    errno.ENETDOWN: StoreTrouble.UNREACHABLE,
    errno.EHOSTDOWN: StoreTrouble.UNREACHABLE,
    errno.EADDRNOTAVAIL: StoreTrouble.UNREACHABLE,
    errno.ETIMEDOUT: StoreTrouble.TIMEOUT,
}


class Refused(RedisConnectionError):
    """An error whose cause is known where it is raised."""

    def __init__(self, cause: StoreTrouble) -> None:
        super().__init__(cause.value)  # pyright: ignore[reportUnknownMemberType] - untyped
        self.cause = cause


def told_of(error: BaseException) -> tuple[str, StoreTrouble]:
    """Return what may be told of an error, which is nothing of a foreign text, and its cause."""
    if isinstance(error, UNREADABLE):
        return str(error), StoreTrouble.UNREADABLE
    if isinstance(error, UnicodeDecodeError):
        return type(error).__name__, StoreTrouble.UNREADABLE
    if isinstance(error, ResponseError) and str(error).startswith(NEWER_SCHEMA):
        return "a newer sidecar wrote this record", StoreTrouble.SCHEMA
    kind = RedisConnectionError if isinstance(error, Refused) else type(error)
    return kind.__name__, trouble_of(error)


def trouble_of(error: BaseException) -> StoreTrouble:
    """Return the cause of an error; every error has one."""
    if isinstance(error, Refused):
        return error.cause
    if isinstance(error, RedisError):
        return _trouble_of_redis(error)
    return _trouble_of_system(error) or StoreTrouble.ERROR


@contextmanager
def ends_told() -> Generator[None]:
    """Make what an ended connection raises an error of redis-py; for a connection's own methods.

    Raises:
        RedisConnectionError: The connection has ended; redis-py has let it go.
    """
    task = asyncio.current_task()
    before = 0 if task is None else task.cancelling()
    try:
        yield
    except asyncio.CancelledError as error:
        # Tasks that wait for one connection to close share a future, which the first of them that
        # runs out of time cancels for all.
        if task is None or task.cancelling() > before:
            raise
        raise Refused(StoreTrouble.RESET) from error
    except (RedisError, OSError, MemoryError):
        raise
    except Exception as error:
        raise Refused(StoreTrouble.RESET) from error


def _trouble_of_redis(error: RedisError) -> StoreTrouble:
    code = error.status_code or str(error).partition(" ")[0]
    if code in _CODES:
        return _CODES[code]
    for kind, cause in _KINDS:
        if isinstance(error, kind):
            return cause
    if not isinstance(error, RedisConnectionError):
        is_forbidden = str(error).startswith(_FORBIDDEN_IN_SCRIPTS)
        return StoreTrouble.NOPERM if is_forbidden else StoreTrouble.ERROR
    if SERVER_FULL in str(error):
        return StoreTrouble.MAXCLIENTS
    causes = (_trouble_of_system(below) for below in _below(error))
    return next((cause for cause in causes if cause is not None), StoreTrouble.RESET)


def _below(error: BaseException) -> Iterator[BaseException]:
    """Yield what an error was made of; redis-py often does not say `from`."""
    below = error.__cause__ or error.__context__
    while below is not None:
        yield below
        below = below.__cause__ or below.__context__


def _trouble_of_system(error: BaseException) -> StoreTrouble | None:
    match error:
        case Refused():
            return error.cause
        case ssl.SSLCertVerificationError():
            return StoreTrouble.CERTIFICATE
        case ssl.SSLEOFError() | ConnectionResetError() | ConnectionAbortedError():
            return StoreTrouble.RESET
        case ssl.SSLError():
            return StoreTrouble.TLS
        case socket.gaierror():
            return StoreTrouble.DNS
        case TimeoutError():
            return StoreTrouble.TIMEOUT
        case OSError(errno=None):
            numbers = [int(number) for number in _NUMBER.findall(str(error))]
            return next((_NUMBERS[number] for number in numbers if number in _NUMBERS), None)
        case OSError():
            return _NUMBERS.get(error.errno or 0)
        case _:
            return None
