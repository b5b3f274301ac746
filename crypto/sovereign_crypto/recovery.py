"""The recovery kit: 32 random bytes on paper, from which a lost identity comes back.

All derived keys come from the secret by HKDF; no slow derivation is needed for 256 random bits.

Source: ``crypto/specs/recovery.md``.
"""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Self

from sovereign_crypto.aead import hkdf
from sovereign_crypto.crockford import decode_groups, encode_groups
from sovereign_crypto.domains import Domain
from sovereign_crypto.envelope import OVERHEAD_BYTES, Purpose, open_sealed, seal
from sovereign_crypto.errors import FormatError
from sovereign_crypto.hpke import WRAP_BYTES, EncryptionKey, WrapPurpose, unwrap, wrap
from sovereign_crypto.signing import SigningKey

SECRET_BYTES = 32
_GROUPS_PER_LINE = 5


@dataclass(frozen=True)
class RecoveryKit:
    """The secret and what is derived from it.

    Attributes:
        secret: 32 random bytes.

    """

    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.secret) != SECRET_BYTES:
            raise FormatError("a recovery secret has 32 bytes")

    @classmethod
    def generate(cls) -> Self:
        """Make a kit from 32 fresh random bytes."""
        return cls(os.urandom(SECRET_BYTES))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read groups as typed by a person.

        Raises:
            FormatError: not a recovery key; names the groups that look wrong.

        """
        return cls(decode_groups(text))

    def to_groups(self) -> str:
        """Return the 15 groups, separated by spaces."""
        return " ".join(encode_groups(self.secret))

    @cached_property
    def signing_key(self) -> SigningKey:
        """Ed25519 key whose public half is fixed in the genesis of the identity."""
        return SigningKey.from_seed(self._derive(Domain.RECOVERY_SIGN))

    @cached_property
    def encryption_key(self) -> EncryptionKey:
        """X25519 key to which devices seal the recovery record."""
        return EncryptionKey.from_seed(self._derive(Domain.RECOVERY_ENCRYPT))

    @cached_property
    def locator(self) -> bytes:
        """32-byte bearer name of the recovery record at providers."""
        return self._derive(Domain.RECOVERY_LOCATOR)

    @cached_property
    def rendezvous(self) -> bytes:
        """32-byte DHT key under which providers of the record are found."""
        return recovery_rendezvous(self.locator)

    def _derive(self, domain: Domain) -> bytes:
        return hkdf(self.secret, domain.prefix)


def recovery_rendezvous(locator: bytes) -> bytes:
    """Return the DHT key of a recovery record; it does not reveal the locator."""
    return hashlib.sha256(Domain.RECOVERY_RENDEZVOUS.prefix + locator).digest()


def seal_to_recovery(public_encryption_key: bytes, context: bytes, plaintext: bytes) -> bytes:
    """Seal a recovery record; needs only the public key, so any device can refresh it.

    Args:
        public_encryption_key: of the kit, 32 bytes.
        context: bytes that the opener must know, at most 1002; may be empty.
        plaintext: at most 4.25 MiB.

    Returns:
        A key wrap (106 bytes) and an envelope.

    Raises:
        FormatError: the key is not usable.
        ParameterError: an argument is out of range.

    """
    key = os.urandom(32)
    bound = Domain.RECOVERY_WRAP.prefix + context
    wrapped = wrap(WrapPurpose.RECOVERY, public_encryption_key, key, context=bound)
    return wrapped + seal(Purpose.RECOVERY, key, bound, plaintext)


def open_with_recovery(kit: RecoveryKit, context: bytes, sealed: bytes) -> bytes:
    """Open a recovery record.

    Anybody who knows the public key can make one, so its content must prove itself by signatures.

    Raises:
        FormatError: not a recovery record.
        AuthenticationError: another kit or context, or altered bytes.
        ParameterError: ``context`` is too long.

    """
    if len(sealed) < WRAP_BYTES + OVERHEAD_BYTES:
        raise FormatError("not a recovery record")
    bound = Domain.RECOVERY_WRAP.prefix + context
    key = unwrap(WrapPurpose.RECOVERY, kit.encryption_key, sealed[:WRAP_BYTES], context=bound)
    return open_sealed(Purpose.RECOVERY, key, bound, sealed[WRAP_BYTES:])


@dataclass(frozen=True)
class KitHints:
    """What a kit file says besides the key; all optional, none of it secret or trusted.

    Attributes:
        name: of the identity.
        identity_id: 32 bytes, or None.
        bootstrap: multiaddrs to try first.

    """

    name: str = ""
    identity_id: bytes | None = None
    bootstrap: tuple[str, ...] = ()


_TITLE = "SOVEREIGN RECOVERY KIT"
_HEADER = f"""{_TITLE}

Whoever holds this page can take over the identity and read all of its data.
Print it or store it off line, apart from your devices. Never send it to anyone.
To recover on a new device: sovereign join --kit-file FILE
"""
_KEY, _NAME, _IDENTITY, _BOOTSTRAP = "Key:", "Name:", "Identity:", "Bootstrap:"
MAX_KIT_FILE_CHARACTERS = 65536


def render_kit_file(kit: RecoveryKit, hints: KitHints = KitHints()) -> str:
    """Return the text of a kit file: a header for people, the groups, the hints."""
    groups = encode_groups(kit.secret)
    lines = [_HEADER]
    if hints.name:
        lines.append(f"{_NAME} {_one_line(hints.name)}")
    if hints.identity_id is not None:
        lines.append(f"{_IDENTITY} {hints.identity_id.hex()}")
    for start in range(0, len(groups), _GROUPS_PER_LINE):
        lines.append(f"{_KEY} {' '.join(groups[start : start + _GROUPS_PER_LINE])}")
    lines.extend(f"{_BOOTSTRAP} {_one_line(address)}" for address in hints.bootstrap)
    return "\n".join(lines) + "\n"


def parse_kit_file(text: str) -> tuple[RecoveryKit, KitHints]:
    """Read a kit file, or bare groups typed by hand.

    Raises:
        FormatError: no readable recovery key; names the groups that look wrong.

    """
    if len(text) > MAX_KIT_FILE_CHARACTERS:
        raise FormatError("a kit file is shorter than this")
    lines = [line.strip() for line in text.splitlines()]
    key = _values(lines, _KEY)
    if not key:
        return RecoveryKit.parse(text), KitHints()
    hints = KitHints(
        name=next(iter(_values(lines, _NAME)), ""),
        identity_id=_identity_id(_values(lines, _IDENTITY)),
        bootstrap=tuple(_values(lines, _BOOTSTRAP)),
    )
    return RecoveryKit.parse(" ".join(key)), hints


def _values(lines: Sequence[str], label: str) -> list[str]:
    found = (line[len(label) :].strip() for line in lines if line.lower().startswith(label.lower()))
    return [value for value in found if value]


def _identity_id(values: Sequence[str]) -> bytes | None:
    try:
        identity_id = bytes.fromhex(values[0]) if values else None
    except ValueError as error:
        raise FormatError("the identity in the kit file is not hexadecimal") from error
    if identity_id is not None and len(identity_id) != SECRET_BYTES:
        raise FormatError("the identity in the kit file has a wrong length")
    return identity_id


def _one_line(text: str) -> str:
    return " ".join(text.split())
