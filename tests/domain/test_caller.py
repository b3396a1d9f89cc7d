from __future__ import annotations

import pytest

from sidecar.domain.caller import name_user, show_client_key
from sidecar.domain.forwarding import RequestHead, sort_request_headers
from sidecar.domain.request_target import Refused
from sidecar.domain.secret import Secret
from sidecar.domain.tokens import ProblemReason

USER = b"Sidecar-User"
AUTHORIZATION = b"Authorization"
MISSING = Refused(reason=ProblemReason.USER_MISSING)
INVALID = Refused(reason=ProblemReason.REQUEST_INVALID)


def head(*pairs: tuple[bytes, bytes]) -> RequestHead:
    return sort_request_headers(pairs, user_header=b"sidecar-user")


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([(USER, b"u-1")], "u-1"),
        ([(USER, b"a" * 255)], "a" * 255),
        ([(USER, b"!~/?%")], "!~/?%"),
        ([(AUTHORIZATION, b"Bearer user:u-1")], "u-1"),
        ([(AUTHORIZATION, b"bearer  user:a:b")], "a:b"),
        ([(AUTHORIZATION, b"Bearer key:k3y:user:u-1")], "u-1"),
        ([(USER, b"u-1"), (AUTHORIZATION, b"Bearer user:u-1")], "u-1"),
        ([(USER, b"u-1"), (AUTHORIZATION, b"Bearer eyJ0.a.b")], "u-1"),
        ([(USER, b"u-1"), (AUTHORIZATION, b"Basic dTpw")], "u-1"),
        ([], MISSING),
        ([(USER, b"")], MISSING),
        ([(USER, b"a" * 256)], MISSING),
        ([(USER, b"a b")], MISSING),
        ([(USER, b".")], MISSING),
        ([(USER, b"..")], MISSING),
        ([(USER, "ü".encode())], MISSING),
        ([(USER, b"a\x7f")], MISSING),
        ([(AUTHORIZATION, b"Bearer eyJ0.a.b")], MISSING),
        ([(AUTHORIZATION, b"Bearer key:user:u-1")], MISSING),
        ([(AUTHORIZATION, b"Basic user:u-1")], MISSING),
        ([(AUTHORIZATION, b"Bearer user:")], MISSING),
        ([(USER, b"u-1"), (USER, b"u-1")], INVALID),
        ([(USER, b"u-1"), (b"sidecar-user", b"u-2")], INVALID),
        ([(USER, b"u-1"), (AUTHORIZATION, b"Bearer user:u-2")], INVALID),
        ([(AUTHORIZATION, b"Bearer user:u-1"), (AUTHORIZATION, b"Bearer user:u-1")], INVALID),
    ],
)
def test_a_request_names_one_user_or_none(
    pairs: list[tuple[bytes, bytes]], expected: str | Refused
) -> None:
    """Header and bearer name the user; repeated or disagreeing sources are refused."""
    assert name_user(head(*pairs), user_header=b"sidecar-user") == expected


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([], None),
        ([(b"Sidecar-Key", b"k3y")], Secret("k3y")),
        ([(AUTHORIZATION, b"Bearer key:k3y:user:u-1")], Secret("k3y")),
        ([(b"Sidecar-Key", b"k3y"), (AUTHORIZATION, b"Bearer key:k3y:user:u")], Secret("k3y")),
        ([(b"Sidecar-Key", b"k3y"), (AUTHORIZATION, b"Bearer key:other:user:u")], INVALID),
        ([(b"Sidecar-Key", b"k3y"), (b"Sidecar-Key", b"k3y")], INVALID),
    ],
)
def test_a_request_shows_one_client_key_or_none(
    pairs: list[tuple[bytes, bytes]], expected: Secret | Refused | None
) -> None:
    """Two client keys that disagree are refused before any of them is tried."""
    assert show_client_key(head(*pairs)) == expected
