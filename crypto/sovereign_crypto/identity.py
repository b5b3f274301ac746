"""Identities: the root from which a person's keys come, and all that belongs to it under one name.

Source: ``crypto/specs/identity.md``.
"""

import os
from dataclasses import dataclass, field
from functools import cached_property
from typing import Self

from sovereign_crypto.aead import hkdf
from sovereign_crypto.certificate import (
    Capability,
    CertificateError,
    CertificateFault,
    DeviceCertificate,
    IdentityAnchor,
    check_validity,
    compute_identity_id,
    countersign_certificate,
    draft_certificate,
    issue_certificate,
    parse_certificate,
    verify_certificate,
)
from sovereign_crypto.domains import Domain
from sovereign_crypto.errors import FormatError
from sovereign_crypto.identity_entries import (
    Action,
    Entry,
    Position,
    build_add_device,
    build_genesis,
    build_puk_rotate,
    build_recovery_change,
    build_revoke_device,
    build_root_rotate,
    parse_entry,
)
from sovereign_crypto.identity_log import ForkError, IdentityLog, LogError, RollbackError
from sovereign_crypto.signing import SigningKey

__all__ = [
    "Action",
    "Capability",
    "CertificateError",
    "CertificateFault",
    "DeviceCertificate",
    "Entry",
    "ForkError",
    "IdentityAnchor",
    "IdentityLog",
    "IdentityRoot",
    "LogError",
    "Position",
    "RollbackError",
    "build_add_device",
    "build_genesis",
    "build_puk_rotate",
    "build_recovery_change",
    "build_revoke_device",
    "build_root_rotate",
    "check_validity",
    "compute_identity_id",
    "countersign_certificate",
    "draft_certificate",
    "issue_certificate",
    "parse_certificate",
    "parse_entry",
    "verify_certificate",
]

SEED_BYTES = 32


@dataclass(frozen=True)
class IdentityRoot:
    """The root seed: unlocked only to change devices, recovery or retention.

    Attributes:
        seed: 32 random bytes.
        generation: how often the root was rotated before.

    """

    seed: bytes = field(repr=False)
    generation: int = 0

    def __post_init__(self) -> None:
        if len(self.seed) != SEED_BYTES:
            raise FormatError("an identity root seed has 32 bytes")

    @classmethod
    def generate(cls, generation: int = 0) -> Self:
        """Make a root from 32 fresh random bytes."""
        return cls(os.urandom(SEED_BYTES), generation)

    @cached_property
    def signing_key(self) -> SigningKey:
        """Ed25519 identity key of this generation."""
        return SigningKey.from_seed(hkdf(self.seed, Domain.IDENTITY_SIGN.prefix))

    @cached_property
    def seal_key(self) -> bytes:
        """32-byte key for records that only the root may read."""
        return hkdf(self.seed, Domain.IDENTITY_SEAL.prefix)

    def new_anchor(self, recovery_pk: bytes) -> IdentityAnchor:
        """Draw the nonce of a new identity.

        Args:
            recovery_pk: Ed25519 key of the recovery kit, 32 bytes.

        """
        return IdentityAnchor(self.signing_key.public, recovery_pk, os.urandom(16))
