import base64

import pytest

from sovereign_crypto.signing import SigningKey, verify
from sovereign_protocols.relay.credentials import (
    USER_PREFIX,
    CredentialsError,
    NatsCredentials,
    decode_seed,
    encode_public,
    encode_seed,
)

SEED = bytes(range(32))
SEED_TEXT = encode_seed(USER_PREFIX, SEED)
JWT = "eyJ0eXAiOiJKV1QifQ.eyJqdGkiOiJ4In0.c2ln"
CREDS = f"""-----BEGIN NATS USER JWT-----
{JWT}
------END NATS USER JWT------

************************* IMPORTANT *************************
NKEY Seed printed below can be used to sign and prove identity.

-----BEGIN USER NKEY SEED-----
{SEED_TEXT}
------END USER NKEY SEED------

*************************************************************
"""


def test_a_seed_round_trips():
    assert SEED_TEXT.startswith("SU")
    assert len(SEED_TEXT) == 58
    assert decode_seed(SEED_TEXT) == (USER_PREFIX, SEED)


def test_a_public_key_has_the_letter_of_its_type():
    text = encode_public(USER_PREFIX, SigningKey.from_seed(SEED).public)
    assert text.startswith("U")
    assert len(text) == 56


def test_one_wrong_character_is_noticed():
    for position in range(len(SEED_TEXT)):
        letter = "A" if SEED_TEXT[position] != "A" else "B"
        with pytest.raises(CredentialsError):
            decode_seed(SEED_TEXT[:position] + letter + SEED_TEXT[position + 1 :])


@pytest.mark.parametrize("text", ["", "SU", "not base32!", encode_public(USER_PREFIX, SEED), SEED_TEXT + "A" * 8])
def test_other_text_is_no_seed(text):
    with pytest.raises(CredentialsError):
        decode_seed(text)


def test_a_credentials_file_gives_jwt_and_seed():
    assert NatsCredentials.from_file_text(CREDS) == NatsCredentials(seed=SEED, jwt=JWT)


@pytest.mark.parametrize("block", ["NATS USER JWT", "USER NKEY SEED"])
def test_a_credentials_file_needs_both_blocks(block):
    with pytest.raises(CredentialsError, match="must hold"):
        NatsCredentials.from_file_text(CREDS.replace(f"BEGIN {block}", "BEGIN X"))


def test_an_endless_file_is_not_searched():
    with pytest.raises(CredentialsError, match="too long"):
        NatsCredentials.from_file_text("-" * 70_000)


def test_the_nonce_is_signed_with_the_key_that_is_named():
    fields = NatsCredentials(seed=SEED).connect_fields("nonce")
    key = SigningKey.from_seed(SEED)
    assert fields["nkey"] == encode_public(USER_PREFIX, key.public)
    verify(key.public, b"nonce", base64.urlsafe_b64decode(fields["sig"] + "=="))
    assert "=" not in fields["sig"]


def test_a_jwt_names_the_key_itself():
    assert set(NatsCredentials(seed=SEED, jwt=JWT).connect_fields("nonce")) == {"jwt", "sig"}


def test_nothing_is_signed_without_a_nonce():
    assert NatsCredentials(seed=SEED).connect_fields("") == {}


def test_passwords_and_tokens_are_named_as_the_server_wants():
    assert NatsCredentials(user="u", password="p").connect_fields("n") == {"user": "u", "pass": "p"}
    assert NatsCredentials(token="t").connect_fields("n") == {"auth_token": "t"}


def test_secrets_do_not_show():
    shown = repr(NatsCredentials(user="me", password="pa55", token="t0ken", seed=SEED, jwt=JWT))
    assert shown == "NatsCredentials(user='me')"
