"""Every authenticated encryption and HKDF call of the project passes through here.

The rule that makes AES-256-GCM safe to use: a key is derived from fresh random salt for one message
and never used for a second one, so a nonce can never repeat under a key.

Source: NIST SP 800-38D; RFC 5869; ``crypto/specs/envelope.md``.
"""

import hmac
from collections.abc import Iterable

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import GCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from sovereign_crypto.errors import AuthenticationError, ParameterError

Buffer = bytes | bytearray | memoryview

KEY_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 16
SALT_BYTES = 32
COMMITMENT_BYTES = 32


class MessageKey:
    """Key, nonce and commitment for one message. Derive, use once, drop."""

    __slots__ = ("_cipher", "_key", "_nonce", "commitment")

    def __init__(self, material: bytes) -> None:
        self._key = material[:KEY_BYTES]
        self._cipher = AESGCM(self._key)
        self._nonce = material[KEY_BYTES : KEY_BYTES + NONCE_BYTES]
        self.commitment = material[KEY_BYTES + NONCE_BYTES :]

    def encrypt(self, plaintext: Buffer, associated_data: bytes) -> bytes:
        """Return ciphertext and tag."""
        return self._cipher.encrypt(self._nonce, plaintext, associated_data)

    def encrypt_into(self, plaintext: Buffer, associated_data: bytes, target: memoryview) -> None:
        """Write ciphertext and tag, ``len(plaintext) + 16`` bytes, to ``target``."""
        self._cipher.encrypt_into(self._nonce, plaintext, associated_data, target)

    def decrypt(self, ciphertext: Buffer, associated_data: bytes, commitment: Buffer) -> bytes:
        """Return the plaintext if the commitment and the tag hold.

        Raises:
            AuthenticationError: they do not; no plaintext has left the library.

        """
        if not self.commits_to(commitment):
            raise AuthenticationError("authentication failed")
        try:
            return self._cipher.decrypt(self._nonce, ciphertext, associated_data)
        except InvalidTag as error:
            raise AuthenticationError("authentication failed") from error

    def decrypt_pieces(
        self, pieces: Iterable[Buffer], associated_data: bytes, tag: bytes, target: memoryview
    ) -> None:
        """Decrypt ciphertext that lies in several pieces, without joining them; call :meth:`commits_to` before.

        Args:
            pieces: the ciphertext in order, without the tag.
            associated_data: as when it was encrypted.
            tag: 16 bytes.
            target: exactly as long as the pieces together; all zero after an error.

        Raises:
            AuthenticationError: the tag does not hold.

        """
        decryptor = Cipher(AES256(self._key), GCM(self._nonce)).decryptor()
        decryptor.authenticate_additional_data(associated_data)
        at = 0
        for piece in pieces:
            at += decryptor.update_into(piece, target[at:])
        try:
            decryptor.finalize_with_tag(tag)
        except InvalidTag as error:
            target[:] = bytes(len(target))
            raise AuthenticationError("authentication failed") from error

    def commits_to(self, commitment: Buffer) -> bool:
        """Compare in constant time with a stored commitment."""
        return hmac.compare_digest(self.commitment, commitment)


def derive_message_key(secret: bytes, salt: bytes, info: bytes) -> MessageKey:
    """Derive key, nonce and commitment of the one message that has this salt.

    Args:
        secret: 32 bytes or more.
        salt: 32 fresh random bytes, stored with the message.
        info: domain prefix, header, context.

    """
    return MessageKey(hkdf(secret, info, KEY_BYTES + NONCE_BYTES + COMMITMENT_BYTES, salt=salt))


def hkdf(secret: bytes, info: bytes, length_bytes: int = 32, *, salt: bytes | None = None) -> bytes:
    """HKDF-SHA256.

    Args:
        secret: input key material of at least 32 bytes.
        info: domain prefix and context.
        length_bytes: size of the output.
        salt: optional.

    Raises:
        ParameterError: ``secret`` is shorter than 32 bytes.

    """
    if len(secret) < KEY_BYTES:
        raise ParameterError("a secret has at least 32 bytes")
    return HKDF(algorithm=SHA256(), length=length_bytes, salt=salt, info=info).derive(bytes(secret))
