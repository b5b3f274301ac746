"""The keys of a project: what a member holds, and what is derived from it.

Source: ``crypto/specs/keys.md``, section "Project keys".
"""

import os
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Self

from sovereign_crypto import cbor
from sovereign_crypto.aead import KEY_BYTES, hkdf
from sovereign_crypto.domains import Domain
from sovereign_crypto.errors import MalformedError, ParameterError

# One rotation for each of the entries that a membership log may have.
MAX_EPOCHS = 4096
_MAX_ENCODED_BYTES = 256 * 1024
_KEYS = {"v", "project_id", "epoch_keys", "dedup_secret"}


@dataclass(frozen=True)
class ProjectKeys:
    """Epoch keys (rotated when a member leaves) and a stable secret for names.

    Attributes:
        project_id: 32 random bytes, known to members only.
        epoch_keys: 32 bytes each; the last one seals what is written now.
        dedup_secret: 32 bytes that never rotate, so a rotation does not force a new upload.

    """

    project_id: bytes
    epoch_keys: tuple[bytes, ...] = field(repr=False)
    dedup_secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if not 1 <= len(self.epoch_keys) <= MAX_EPOCHS:
            raise ParameterError("a project has between 1 and 4096 epochs")
        if any(len(part) != KEY_BYTES for part in (self.project_id, self.dedup_secret, *self.epoch_keys)):
            raise ParameterError("project id, epoch keys and dedup secret have 32 bytes each")

    @classmethod
    def generate(cls) -> Self:
        """Make the keys of a new project, at epoch 0."""
        return cls(os.urandom(KEY_BYTES), (os.urandom(KEY_BYTES),), os.urandom(KEY_BYTES))

    def with_new_epoch(self) -> Self:
        """Return the keys after a rotation; everything that is stable stays."""
        return replace(self, epoch_keys=(*self.epoch_keys, os.urandom(KEY_BYTES)))

    @property
    def epoch(self) -> int:
        """The current epoch, counted from 0."""
        return len(self.epoch_keys) - 1

    def chunk_key(self, epoch: int) -> bytes:
        """Return the 32-byte key that seals chunks of ``epoch``."""
        return self._epoch_key(Domain.PROJECT_CHUNK, epoch)

    def index_key(self, epoch: int) -> bytes:
        """Return the 32-byte key that seals index segments of ``epoch``."""
        return self._epoch_key(Domain.PROJECT_INDEX, epoch)

    def head_key(self, epoch: int) -> bytes:
        """Return the 32-byte key that seals head payloads of ``epoch``."""
        return self._epoch_key(Domain.PROJECT_HEAD, epoch)

    def log_key(self, epoch: int) -> bytes:
        """Return the 32-byte key that seals membership and settings records of ``epoch``."""
        return self._epoch_key(Domain.PROJECT_LOG, epoch)

    @cached_property
    def dedup_key(self) -> bytes:
        """32-byte key of blob names."""
        return self._stable_key(Domain.PROJECT_DEDUP)

    @cached_property
    def discovery_key(self) -> bytes:
        """32-byte rendezvous under which the devices of members find one another."""
        return self._stable_key(Domain.PROJECT_DISCOVERY)

    def locator(self, provider_public_key: bytes = b"") -> bytes:
        """Return the 32-byte pseudonym of the project at providers.

        Args:
            provider_public_key: empty for the common pseudonym, or the 32-byte key of one provider
                for a pseudonym that other providers cannot link to theirs.

        """
        return hkdf(self.dedup_secret, Domain.PROJECT_LOCATOR.prefix + self.project_id + provider_public_key)

    def to_bytes(self) -> bytes:
        """Encode as strict CBOR; the result is secret and belongs into an envelope."""
        return cbor.encode(
            {
                "v": 1,
                "project_id": self.project_id,
                "epoch_keys": list(self.epoch_keys),
                "dedup_secret": self.dedup_secret,
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode what :meth:`to_bytes` gave.

        Raises:
            MalformedError: not the keys of a project.

        """
        body = cbor.decode(data, max_bytes=_MAX_ENCODED_BYTES)
        if not isinstance(body, dict) or body.keys() != _KEYS or body["v"] != 1 or body["v"] is True:
            raise MalformedError("not the keys of a project")
        epoch_keys = body["epoch_keys"]
        if not isinstance(epoch_keys, list):
            raise MalformedError("not the keys of a project")
        if not all(isinstance(k, bytes) for k in (body["project_id"], body["dedup_secret"], *epoch_keys)):
            raise MalformedError("not the keys of a project")
        try:
            return cls(body["project_id"], tuple(epoch_keys), body["dedup_secret"])
        except ParameterError as error:
            raise MalformedError("not the keys of a project") from error

    def _epoch_key(self, domain: Domain, epoch: int) -> bytes:
        if not 0 <= epoch <= self.epoch:
            raise ParameterError(f"no key for epoch {epoch}")
        return hkdf(self.epoch_keys[epoch], domain.prefix + self.project_id + epoch.to_bytes(4, "big"))

    def _stable_key(self, domain: Domain) -> bytes:
        return hkdf(self.dedup_secret, domain.prefix + self.project_id)
