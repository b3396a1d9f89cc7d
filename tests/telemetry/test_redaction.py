from __future__ import annotations

import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.domain import events as ev
from sidecar.domain.events import RequestOutcome
from sidecar.telemetry.lines import fields_of
from sidecar.telemetry.redaction import MASK, SECRET_NAMES, is_suspect, redact, redact_text
from tests.support.sample_events import sample

CANARY = "canary5f1e"
DEX_TOKEN = "ChlsNXp4a3Rq" + CANARY + "cGdneGF6cWJ5Zm9z"


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("eyJhbGciOi.eyJzdWIiOiJ.c2lnbmF0", MASK),
        ("cut: eyJhbGciOi.eyJzdW", f"cut: {MASK}"),
        (f"Authorization: Bearer {CANARY}", f"Authorization: Bearer {MASK}"),
        (f"bearer  {CANARY}, x", f"bearer {MASK}, x"),
        (f"Basic {CANARY}==", f"Basic {MASK}"),
        (f"got ory_rt_{CANARY}.x-y", f"got {MASK}"),
        (f"ory_ac_{CANARY}", MASK),
        (DEX_TOKEN, MASK),
        (f"https://h.example/p?code={CANARY}&state=1", f"https://h.example/p?{MASK}"),
        (f"GET /accounts/v2/mikomo?x={CANARY}", f"GET /accounts/v2/mikomo?{MASK}"),
        (f"redis://user:{CANARY}@host:6379/0", f"redis://{MASK}@host:6379/0"),
        (f"refresh_token={CANARY}&grant_type=x", f"refresh_token={MASK}&grant_type=x"),
        (f'{{"id_token": "{CANARY}"}}', f'{{"id_token": "{MASK}"}}'),
        (f"client_secret: {CANARY}", f"client_secret: {MASK}"),
        (f"Sidecar-Key: {CANARY}", f"Sidecar-Key: {MASK}"),
    ],
)
def test_a_secret_in_a_sentence_is_masked_and_the_rest_stays(text: str, masked: str) -> None:
    """A line stays useful: only the secret part of it is gone."""
    assert redact_text(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "refresh_token_claimed",
        "token_unavailable",
        "Akoya says that the refresh token was used before or is invalid; look first.",
        "what now? nothing",
        "127.0.0.1:8080",
        "unix:/run/sidecar/proxy.sock",
        "ValueError at proxy.py:123",
        "f47ac10b-58cc-4372-a567-0e02b2c3d479",
        "Check the network",
    ],
)
def test_what_is_no_secret_is_left_alone(text: str) -> None:
    """The net does not eat reasons, hints, addresses and ids."""
    assert redact_text(text) == text


@pytest.mark.parametrize("name", sorted(SECRET_NAMES))
def test_a_field_with_a_secret_name_is_masked_whatever_it_holds(name: str) -> None:
    """A name is enough, at any depth and in any spelling; and such a line is looked at."""
    for spelling in (name, name.upper(), name.title()):
        fields = {"a": {"b": [{spelling: CANARY}]}, spelling: CANARY}

        assert CANARY not in json.dumps(redact(fields))
        assert is_suspect(f'{{"{spelling}":"{CANARY}"}}', {spelling: CANARY})


@given(
    before=st.text(max_size=20),
    after=st.text(max_size=20),
    secret=st.sampled_from(
        [
            "eyJhbGciOi.eyJzdWIiOiJ.c2lnbmF0",
            f" Bearer {CANARY}",
            f"ory_rt_{CANARY}",
            f" {DEX_TOKEN}",
            f"https://u:{CANARY}@h/",
            f"/p?q={CANARY}",
            f" refresh_token={CANARY}",
            f'"id_token":"{CANARY}"',
        ]
    ),
)
def test_no_line_with_a_secret_shape_passes_the_cheap_look(
    before: str, after: str, secret: str
) -> None:
    """The quick search never lets through what the careful one would have changed."""
    fields = {"event": "x.happened", "error": before + secret + after}
    line = orjson.dumps(fields).decode()

    assert is_suspect(line, fields) or redact(fields) == fields


def test_the_usual_line_of_a_request_is_not_taken_apart() -> None:
    """The hot path pays for the cheap look alone."""
    event = sample(
        ev.RequestCompleted,
        request_id="0" * 32,
        outcome=RequestOutcome.PASSED,
        interaction_id="f47ac10b-58cc-4372-a567-0e02b2c3d479",
    )
    fields = fields_of(event)

    assert not is_suspect(orjson.dumps(fields).decode(), fields)
