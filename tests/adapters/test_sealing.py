from __future__ import annotations

import base64
import traceback
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.adapters.sealing import KEY_BYTES, AesGcmSealer, generate_keys
from sidecar.domain.record import GrantId, GrantKey
from sidecar.domain.sealing import KeyName, SealContext
from sidecar.domain.secret import Secret
from sidecar.ports import SealError

OLD_KEY = bytes(range(64, 96))
KEY = bytes(range(32))
HASH_KEY = bytes(range(32, 64))
GRANT = GrantId("0a" * 16)
PAIR = SealContext(purpose="pair", grant=GRANT, consent_id="d2" * 16, generation=7)
CANARY = b"canary-refresh-token"


def _sealer(
    *keys: tuple[str, bytes],
    hash_key: bytes = HASH_KEY,
    environment: str = "sandbox",
    client_id: str = "client",
) -> AesGcmSealer:
    return AesGcmSealer(
        keys=keys or [("k2", KEY)],
        hash_key=hash_key,
        environment=environment,
        client_id=client_id,
    )


@given(
    plaintext=st.binary(max_size=300),
    context=st.builds(
        SealContext,
        purpose=st.sampled_from(["pair", "key", "answer", "order"]),
        grant=st.text(max_size=40).map(GrantId),
        consent_id=st.text(max_size=40),
        generation=st.integers(),
        claim_id=st.text(max_size=40),
    ),
)
def test_an_envelope_opens_for_the_context_it_was_sealed_for(
    plaintext: bytes, context: SealContext
) -> None:
    """What is sealed comes back, whatever it is."""
    sealer = _sealer()

    assert sealer.open(sealer.seal(plaintext, context=context), context=context) == plaintext


@pytest.mark.parametrize(
    "other",
    [
        replace(PAIR, purpose="answer"),
        replace(PAIR, purpose="key"),
        replace(PAIR, purpose="order"),
        replace(PAIR, grant=GrantId("0b" * 16)),
        replace(PAIR, consent_id="d1" * 16),
        replace(PAIR, consent_id=""),
        replace(PAIR, generation=8),
        replace(PAIR, generation=-7),
        replace(PAIR, claim_id="c1" * 16),
        # The same characters, cut otherwise.
        replace(PAIR, grant=GrantId(GRANT + "d"), consent_id=("d2" * 16)[1:]),
        replace(PAIR, consent_id="d2" * 16 + "7", generation=0),
    ],
)
def test_an_envelope_opens_in_no_other_place(other: SealContext) -> None:
    """A stored value that was moved to another user, consent, generation or purpose is refused."""
    sealer = _sealer()
    envelope = sealer.seal(CANARY, context=PAIR)

    with pytest.raises(SealError) as caught:
        sealer.open(envelope, context=other)

    assert caught.value.key_id == "k2"


@pytest.mark.parametrize(
    "other",
    [_sealer(environment="production"), _sealer(client_id="another"), _sealer(("k2", OLD_KEY))],
)
def test_an_envelope_opens_only_for_its_environment_client_and_key(other: AesGcmSealer) -> None:
    """A sandbox's record is worthless in production, and another app's record here."""
    envelope = _sealer().seal(CANARY, context=PAIR)

    with pytest.raises(SealError):
        other.open(envelope, context=PAIR)


def test_every_changed_byte_is_noticed() -> None:
    """No bit of an envelope can be changed without refusal, its head included."""
    # The same key under every id that one changed bit of the head can name.
    ids = ["k2", *(f"k{chr(ord('2') ^ (1 << bit))}" for bit in (0, 1, 2, 6))]
    sealer = _sealer(*((key_id, KEY) for key_id in ids))
    envelope = sealer.seal(CANARY, context=PAIR)

    for place in range(len(envelope)):
        for bit in range(8):
            changed = bytearray(envelope)
            changed[place] ^= 1 << bit
            with pytest.raises(SealError):
                sealer.open(bytes(changed), context=PAIR)


def test_every_cut_of_an_envelope_is_noticed() -> None:
    """A part of an envelope is refused, the empty one too, and so is one with something added."""
    sealer = _sealer()
    envelope = sealer.seal(CANARY, context=PAIR)

    for damaged in (*(envelope[:length] for length in range(len(envelope))), envelope + b"\0"):
        with pytest.raises(SealError):
            sealer.open(damaged, context=PAIR)


def test_a_new_first_key_seals_and_the_old_one_still_opens() -> None:
    """Rotation: put a key before the others, and every envelope stays readable."""
    old, rotated = _sealer(("k1", OLD_KEY)), _sealer(("k2", KEY), ("k1", OLD_KEY))
    sealed_before = old.seal(CANARY, context=PAIR)

    assert rotated.open(sealed_before, context=PAIR) == CANARY
    assert not rotated.is_current(sealed_before)

    sealed_after = rotated.seal(CANARY, context=PAIR)
    assert sealed_after.startswith(b"ak1|k2|")
    assert rotated.is_current(sealed_after)
    assert not rotated.is_current(b"no envelope")


def test_an_unknown_key_is_named() -> None:
    """A sidecar that lacks a key says which; what is no envelope names none."""
    envelope = _sealer(("k9", OLD_KEY)).seal(CANARY, context=PAIR)

    with pytest.raises(SealError) as caught:
        _sealer().open(envelope, context=PAIR)
    assert caught.value.key_id == "k9"

    with pytest.raises(SealError) as caught:
        _sealer().open(b"ak2|k2|" + envelope, context=PAIR)
    assert caught.value.key_id == ""


def test_sealing_twice_gives_two_envelopes() -> None:
    """Equal plaintexts cannot be told from one another."""
    sealer = _sealer()

    assert len({sealer.seal(CANARY, context=PAIR) for _ in range(100)}) == 100


def test_the_format_has_not_drifted() -> None:
    """Envelopes and names made by this version's first release stay what they are."""
    envelope = bytes.fromhex(
        "616b317c6b327c"  # ak1|k2|
        "6465666768696a6b6c6d6e6f"  # nonce
        "b9f4fb260778512ce5052d42eeedb0e84fc8a1ed2a28"  # six bytes and the tag
    )

    assert _sealer().open(envelope, context=PAIR) == b"a pair"
    assert (
        _sealer().grant_id(GrantKey(user="user-1", provider="mikomo"))
        == "65335470699afe814a5fbeb96477f605"
    )
    assert _sealer().fingerprint(Secret("refresh-token-1")) == "1c359abe7b29884542aa6d50389a71a5"


def test_the_nonce_lies_in_front_of_the_ciphertext(monkeypatch: pytest.MonkeyPatch) -> None:
    """With its chance taken away, sealing gives exactly the documented bytes."""

    def counted(size: int) -> bytes:
        return bytes(range(100, 100 + size))

    monkeypatch.setattr("os.urandom", counted)

    envelope = _sealer().seal(b"a pair", context=PAIR)

    assert envelope[:19] == b"ak1|k2|" + bytes(range(100, 112))
    assert envelope[19:].hex() == "b9f4fb260778512ce5052d42eeedb0e84fc8a1ed2a28"


def test_grant_ids_tell_users_and_providers_apart() -> None:
    """Two grants share an id only if user and provider are the same, wherever they are cut."""
    sealer = _sealer()
    keys = [
        GrantKey(user="ab", provider="c"),
        GrantKey(user="ab", provider="d"),
        GrantKey(user="b", provider="ca"),
        GrantKey(user="c", provider="ab"),
        GrantKey(user="", provider="abc"),
        GrantKey(user="\udc80", provider="c"),  # a byte that is no UTF-8, as a header may bring it
    ]

    ids = {sealer.grant_id(key) for key in keys}

    assert len(ids) == len(keys)
    assert all(len(bytes.fromhex(grant)) == 16 for grant in ids)


def test_names_depend_on_the_hash_key_alone() -> None:
    """They outlive every rotation, and tell nothing to whoever lacks the hash key."""
    key, token = GrantKey(user="user-1", provider="mikomo"), Secret("token")
    sealer, rotated = _sealer(), _sealer(("k9", OLD_KEY))
    foreign = AesGcmSealer(
        keys=[("k2", KEY)], hash_key=OLD_KEY, environment="sandbox", client_id="client"
    )

    assert sealer.grant_id(key) == rotated.grant_id(key) != foreign.grant_id(key)
    assert sealer.fingerprint(token) == rotated.fingerprint(token) != foreign.fingerprint(token)
    assert sealer.fingerprint(token) != sealer.fingerprint(Secret("token2"))


def test_a_fingerprint_is_never_the_name_of_a_grant() -> None:
    """The two hashes are told apart by their domain, whatever a token contains."""
    sealer = _sealer()

    assert sealer.fingerprint(Secret("")) != sealer.grant_id(GrantKey(user="", provider=""))
    assert sealer.fingerprint(Secret("\udc80")) != sealer.fingerprint(Secret(""))


def test_neither_repr_nor_error_shows_a_secret() -> None:
    """A log with the sealer or its errors in it holds key ids and nothing else of worth."""
    sealer = _sealer(("k2", KEY), ("k1", OLD_KEY))
    envelope = bytearray(sealer.seal(CANARY, context=PAIR))
    envelope[-1] ^= 1
    assert repr(sealer) == "AesGcmSealer(key_ids=('k2', 'k1'))"

    with pytest.raises(SealError) as caught:
        sealer.open(bytes(envelope), context=PAIR)

    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    for secret in (KEY, HASH_KEY, CANARY):
        assert repr(secret)[2:-1] not in shown
        assert secret.hex() not in shown
    assert str(caught.value) == str(SealError("another"))


@pytest.mark.parametrize(
    ("keys", "hash_key"),
    [
        ([], HASH_KEY),
        ([("k1", KEY[:-1])], HASH_KEY),
        ([("k1", KEY)], HASH_KEY + b"\0"),
        ([("k|1", KEY)], HASH_KEY),
        ([("", KEY)], HASH_KEY),
        ([("k" * 33, KEY)], HASH_KEY),
        ([("k1", KEY), ("k1", OLD_KEY)], HASH_KEY),
    ],
)
def test_malformed_keys_are_refused_without_showing_them(
    keys: list[tuple[str, bytes]], hash_key: bytes
) -> None:
    """A key of another length, or an id that cannot stand in an envelope, is a ValueError."""
    with pytest.raises(ValueError, match="key") as caught:
        AesGcmSealer(keys=keys, hash_key=hash_key, environment="sandbox", client_id="client")

    assert repr(KEY)[2:-1] not in str(caught.value)


def test_generated_keys_are_fresh_and_fit_the_configuration() -> None:
    """Each call gives keys that seal, under an id of their own, and a long enough bearer."""
    first, second = generate_keys(), generate_keys()
    key_id, key = first.encryption_keys.reveal().split(":")

    sealer = AesGcmSealer(
        keys=[(key_id, base64.b64decode(key, validate=True))],
        hash_key=base64.b64decode(first.hash_key.reveal(), validate=True),
        environment="sandbox",
        client_id="client",
    )

    assert sealer.open(sealer.seal(CANARY, context=PAIR), context=PAIR) == CANARY
    assert len(base64.b64decode(key)) == KEY_BYTES
    assert len(first.control_key.reveal()) >= 32
    assert not set(first.control_key.reveal()) & set(":,|= ")
    assert key_id != second.encryption_keys.reveal().split(":")[0]
    assert first.hash_key != second.hash_key
    assert first.control_key != second.control_key
    assert repr(first).count("****") == 3


def test_a_proof_is_equal_for_equal_keys_of_one_app_only() -> None:
    """Peers find out that they hold different keys without showing one."""
    ours = _sealer().proofs()

    others = (
        _sealer(("k2", OLD_KEY)),
        _sealer(hash_key=OLD_KEY),
        _sealer(environment="production"),
        _sealer(client_id="another"),
    )

    assert _sealer().proofs() == ours
    assert set(ours) == {KeyName(key_id="k2"), KeyName(key_id=None)}
    assert all(other.proofs() != ours for other in others)


def test_a_proof_does_not_show_that_one_key_has_two_uses() -> None:
    """What lies in the store tells nothing of any key."""
    proofs = _sealer(("k2", HASH_KEY), ("k3", HASH_KEY)).proofs()

    assert len(set(proofs.values())) == 3
    assert not any(HASH_KEY.hex().startswith(proof) for proof in proofs.values())
