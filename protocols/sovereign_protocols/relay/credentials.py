"""How a client proves to a NATS server who it is: password, token, NKey or credentials file.

An NKey is an Ed25519 key in Base32 with a type prefix and a CRC-16; the client signs the server's nonce.

    seed text, decoded:   offset 0, 2 bytes: 5 bits "S" (18), 5 bits key type, 6 bits zero
                          offset 2, 32 bytes: Ed25519 seed
                          offset 34, 2 bytes: CRC-16/XMODEM of what is before, little-endian
    public text, decoded: 1 byte key type, 32 bytes public key, 2 bytes CRC

Source: https://docs.nats.io/running-a-nats-service/configuration/securing_nats/auth_intro/nkey_auth
"""

import base64
import binascii
import re
from dataclasses import dataclass, field
from typing import Final

from sovereign_crypto.signing import SigningKey

_SEED_PREFIX: Final = 18 << 3
USER_PREFIX: Final = 20 << 3
_CREDENTIALS_BLOCK: Final = re.compile(
    r"-----BEGIN (NATS USER JWT|USER NKEY SEED)-----\s+([A-Za-z0-9_.\-]+)\s+-----+END \1-----+"
)
_MAX_FILE_CHARACTERS: Final = 65_536


class CredentialsError(ValueError):
    """A seed or credentials file cannot be used; the message says why, never what it holds."""


def decode_seed(text: str) -> tuple[int, bytes]:
    """Read an NKey seed.

    Args:
        text: 58 Base32 characters that begin with S.

    Returns:
        Type of the key (`USER_PREFIX` for a user) and 32 bytes of Ed25519 seed.

    Raises:
        CredentialsError: not a seed, or mistyped.
    """
    raw = _decode_checked(text)
    if len(raw) != 34 or raw[0] & 0xF8 != _SEED_PREFIX:
        raise CredentialsError("this is not an NKey seed; it must begin with S")
    return (raw[0] & 7) << 5 | (raw[1] & 0xF8) >> 3, raw[2:]


def encode_public(key_type: int, public: bytes) -> str:
    """Write a 32-byte Ed25519 public key as NKey text, such as U... for a user."""
    return _encode_checked(bytes([key_type]) + public)


def encode_seed(key_type: int, seed: bytes) -> str:
    """Write 32 bytes of Ed25519 seed as NKey text, such as SU... for a user."""
    return _encode_checked(bytes([_SEED_PREFIX | key_type >> 5, (key_type & 31) << 3]) + seed)


def _encode_checked(raw: bytes) -> str:
    checked = raw + binascii.crc_hqx(raw, 0).to_bytes(2, "little")
    return base64.b32encode(checked).decode().rstrip("=")


def _decode_checked(text: str) -> bytes:
    try:
        raw = base64.b32decode(text + "=" * (-len(text) % 8))
    except ValueError as error:
        raise CredentialsError("this is not an NKey") from error
    if len(raw) < 3 or binascii.crc_hqx(raw[:-2], 0).to_bytes(2, "little") != raw[-2:]:
        raise CredentialsError("this is not an NKey: its check sum is wrong")
    return raw[:-2]


@dataclass(frozen=True)
class NatsCredentials:
    """What CONNECT says about us; empty members are left out.

    Attributes:
        user: name for password authentication.
        password: its password.
        token: shared token, instead of user and password.
        seed: 32 bytes of the Ed25519 seed of an NKey user.
        jwt: signed claim of an account that names the NKey.
    """

    user: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    seed: bytes = field(default=b"", repr=False)
    jwt: str = field(default="", repr=False)

    @classmethod
    def from_file_text(cls, text: str) -> "NatsCredentials":
        """Read the text of a .creds file, or of a file that holds one NKey user seed.

        Raises:
            CredentialsError: neither of the two.
        """
        if len(text) > _MAX_FILE_CHARACTERS:
            raise CredentialsError("the file is too long for credentials")
        blocks = dict(_CREDENTIALS_BLOCK.findall(text))
        if blocks and set(blocks) != {"NATS USER JWT", "USER NKEY SEED"}:
            raise CredentialsError("the credentials file must hold a user JWT and a user seed")
        key_type, seed = decode_seed(blocks.get("USER NKEY SEED", text.strip()))
        if key_type != USER_PREFIX:
            raise CredentialsError("the seed is not a user's; it must begin with SU")
        return cls(seed=seed, jwt=blocks.get("NATS USER JWT", ""))

    def connect_fields(self, nonce: str) -> dict[str, str]:
        """Return the members of CONNECT that authenticate us.

        Args:
            nonce: what the server's INFO asks to sign; without one nothing is signed.
        """
        fields = {"user": self.user, "pass": self.password, "auth_token": self.token, "jwt": self.jwt}
        if self.seed and nonce:
            key = SigningKey.from_seed(self.seed)
            signature = key.sign(nonce.encode())
            fields["sig"] = base64.urlsafe_b64encode(signature).decode().rstrip("=")
            if not self.jwt:
                fields["nkey"] = encode_public(USER_PREFIX, key.public)
        return {name: value for name, value in fields.items() if value}
