"""Crockford Base32 groups in which a typing mistake shows where it was made.

A secret of 32 bytes becomes 15 groups of five characters: four carry data, the fifth checks them and
the position of the group, so a wrong character, two neighbours swapped, or two groups swapped are
found in the group where they happened. A 40-bit checksum over the whole catches the rest.

Source: ``crypto/specs/recovery.md``; https://www.crockford.com/base32.html
"""

import hashlib

from sovereign_crypto.domains import Domain
from sovereign_crypto.errors import FormatError

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_VALUES = {character: value for value, character in enumerate(_ALPHABET)} | {"O": 0, "I": 1, "L": 1}
# Besides white space; the last is the byte order mark that some editors put in front.
_IGNORED = "-–—.\ufeff"
_VERSION = 1
_CHECKSUM_BYTES = 5
_DATA_PER_GROUP = 4
GROUP_COUNT = 15
GROUP_CHARACTERS = _DATA_PER_GROUP + 1
SECRET_BYTES = 32
# GF(32) modulo x^5 + x^2 + 1; multiplying by x is one shift and one conditional reduction.
_REDUCTION = 0b100101


def _times_x(value: int) -> int:
    doubled = value << 1
    return doubled ^ _REDUCTION if doubled & 0b100000 else doubled


def _check_symbol(index: int, data: list[int]) -> int:
    # index + x·d0 + x²·d1 + x³·d2 + x⁴·d3 by Horner's rule: distinct non-zero coefficients find
    # every single substitution and every swap of two symbols.
    total = 0
    for symbol in reversed(data):
        total = _times_x(total ^ symbol)
    return total ^ index


def _checksum(secret: bytes) -> bytes:
    separated = Domain.RECOVERY_CHECK.prefix + bytes((_VERSION,)) + secret
    return hashlib.sha256(separated).digest()[:_CHECKSUM_BYTES]


def encode_groups(secret: bytes) -> list[str]:
    """Return the 15 groups of a 32-byte secret: version (4 bits), secret, checksum (40 bits)."""
    number = int.from_bytes(bytes((_VERSION,)) + secret + _checksum(secret), "big")
    symbols = [
        number >> 5 * (GROUP_COUNT * _DATA_PER_GROUP - 1 - position) & 31
        for position in range(GROUP_COUNT * _DATA_PER_GROUP)
    ]
    groups = []
    for index in range(GROUP_COUNT):
        data = symbols[index * _DATA_PER_GROUP : (index + 1) * _DATA_PER_GROUP]
        groups.append("".join(_ALPHABET[symbol] for symbol in (*data, _check_symbol(index, data))))
    return groups


def decode_groups(text: str) -> bytes:
    """Return the 32-byte secret of typed groups.

    Case, spaces, line breaks, hyphens and dots do not matter; O reads as 0, I and L as 1.

    Args:
        text: the 75 characters, in any grouping.

    Raises:
        FormatError: a wrong character, length or checksum; names the groups that look wrong.

    """
    characters = [c for c in text.upper() if not c.isspace() and c not in _IGNORED]
    for position, character in enumerate(characters):
        if character not in _VALUES:
            group = position // GROUP_CHARACTERS + 1
            raise FormatError(f"group {group} of the recovery key has a character that is not used: {character!r}")
    if len(characters) != GROUP_COUNT * GROUP_CHARACTERS:
        raise FormatError(
            f"a recovery key has {GROUP_COUNT * GROUP_CHARACTERS} characters in {GROUP_COUNT} groups; "
            f"this one has {len(characters)}"
        )
    number = 0
    wrong = []
    for index in range(GROUP_COUNT):
        start = index * GROUP_CHARACTERS
        *data, check = (_VALUES[c] for c in characters[start : start + GROUP_CHARACTERS])
        if check != _check_symbol(index, data):
            wrong.append(index + 1)
        for symbol in data:
            number = number << 5 | symbol
    if wrong:
        names = ", ".join(str(group) for group in wrong)
        raise FormatError(f"recovery key: look again at group {names}")
    return _split(number)


def _split(number: int) -> bytes:
    raw = number.to_bytes(1 + SECRET_BYTES + _CHECKSUM_BYTES, "big")
    secret = raw[1 : 1 + SECRET_BYTES]
    if raw[0] != _VERSION:
        raise FormatError("recovery key of an unknown version")
    if raw[1 + SECRET_BYTES :] != _checksum(secret):
        raise FormatError("recovery key: the checksum over all groups is wrong")
    return secret
