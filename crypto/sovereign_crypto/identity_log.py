"""The identity log: a hash-chained, signed history of one person's keys and devices.

Anybody who holds the log can tell which devices speak for the identity. A reader keeps the highest
head it has seen: an older log is a rollback, another entry with the same number a fork.

Source: ``crypto/specs/identity.md``.
"""

from collections.abc import Iterable
from types import MappingProxyType
from typing import Self

from sovereign_crypto.certificate import (
    CertificateError,
    CertificateFault,
    DeviceCertificate,
    IdentityAnchor,
    check_validity,
    parse_certificate,
)
from sovereign_crypto.errors import CryptoError, SignatureError
from sovereign_crypto.identity_entries import (
    GENESIS_PREV,
    MAX_ACTIVE_DEVICES,
    RECOVERY_ACTIONS,
    Action,
    Entry,
    Position,
    parse_entry,
    rotation_proof_input,
)
from sovereign_crypto.signing import verify
from sovereign_crypto.statement import NETWORK_ID_MAIN


class LogError(CryptoError):
    """An entry does not fit where it is, or may not do what it does."""


class RollbackError(LogError):
    """The log is an older state of one that was seen before."""


class ForkError(LogError):
    """Two validly signed entries claim the same place: evidence against whoever signed them.

    Attributes:
        ours: the entry known first.
        theirs: the other one.

    """

    def __init__(self, ours: bytes, theirs: bytes) -> None:
        super().__init__("two entries of the identity log claim the same place")
        self.ours = ours
        self.theirs = theirs


class IdentityLog:
    """A verified log. Every change goes through :meth:`append`, which checks before it changes."""

    def __init__(self, genesis: bytes, *, network_id: bytes = NETWORK_ID_MAIN) -> None:
        """Start from entry 0.

        Raises:
            FormatError, SignatureError: not an entry.
            LogError: not a genesis.

        """
        entry = parse_entry(genesis, network_id)
        if entry.action != Action.GENESIS or entry.position.prev != GENESIS_PREV:
            raise LogError("a log starts with a genesis entry")
        if entry.statement.signer != entry.args["identity_key"]:
            raise LogError("a genesis entry is signed by the identity key it names")
        self._network_id = network_id
        self._anchor = IdentityAnchor(entry.args["identity_key"], entry.args["recovery_key"], entry.args["nonce"])
        self._identity_pk: bytes = self._anchor.identity_pk
        self._recovery_pk: bytes = self._anchor.recovery_pk
        self._recovery_enc_pk: bytes = entry.args["recovery_encryption_key"]
        self._user_pks: list[bytes] = [entry.args["user_key"]]
        # Every signing key that ever spoke for the identity.
        self._authorities = {self._identity_pk, self._recovery_pk}
        self._generation = 0
        self._last_serial = -1
        self._devices: dict[bytes, DeviceCertificate] = {}
        self._revoked: dict[bytes, int] = {}
        self._entries: list[bytes] = [entry.statement.raw]
        self._hashes: list[bytes] = [entry.statement.hash]

    @classmethod
    def verify(
        cls,
        entries: Iterable[bytes],
        *,
        network_id: bytes = NETWORK_ID_MAIN,
        identity_id: bytes | None = None,
    ) -> Self:
        """Verify a whole log.

        Args:
            entries: raw entries from number 0 on; at most 4096.
            network_id: 32 bytes.
            identity_id: refuse the log of any other identity.

        Raises:
            FormatError, SignatureError, CertificateError: an entry is not acceptable in itself.
            LogError: a gap, a wrong previous hash, too many entries or devices, a wrong signer.

        """
        remaining = iter(entries)
        genesis = next(remaining, None)
        if genesis is None:
            raise LogError("a log starts with a genesis entry")
        log = cls(genesis, network_id=network_id)
        if identity_id is not None and identity_id != log.identity_id:
            raise LogError("the log of another identity")
        for raw in remaining:
            log.append(raw)
        return log

    @property
    def anchor(self) -> IdentityAnchor:
        """First keys and nonce, whose hash is the identity id."""
        return self._anchor

    @property
    def identity_id(self) -> bytes:
        """32 bytes."""
        return self._anchor.identity_id

    @property
    def identity_pk(self) -> bytes:
        """Identity key in force, 32 bytes."""
        return self._identity_pk

    @property
    def generation(self) -> int:
        """How often the root was rotated."""
        return self._generation

    @property
    def recovery_pk(self) -> bytes:
        """Recovery signing key in force, 32 bytes."""
        return self._recovery_pk

    @property
    def recovery_enc_pk(self) -> bytes:
        """X25519 key of the recovery kit in force, 32 bytes."""
        return self._recovery_enc_pk

    @property
    def user_pk(self) -> bytes:
        """X25519 user key in force, 32 bytes."""
        return self._user_pks[-1]

    @property
    def user_generation(self) -> int:
        """Generation of the user key in force."""
        return len(self._user_pks) - 1

    @property
    def entries(self) -> tuple[bytes, ...]:
        """The raw entries."""
        return tuple(self._entries)

    @property
    def head(self) -> tuple[int, bytes]:
        """Number and hash of the last entry."""
        return len(self._entries) - 1, self._hashes[-1]

    @property
    def next_position(self) -> Position:
        """Where the next entry goes."""
        return Position(len(self._entries), self._hashes[-1])

    @property
    def next_serial(self) -> int:
        """Smallest serial number that the next certificate may have."""
        return self._last_serial + 1

    @property
    def active_devices(self) -> MappingProxyType[bytes, DeviceCertificate]:
        """Current certificate of each device that is in force, by its Ed25519 key."""
        return MappingProxyType(self._devices)

    @property
    def revoked_devices(self) -> MappingProxyType[bytes, int]:
        """Last accepted sequence number of each revoked device, by its Ed25519 key."""
        return MappingProxyType(self._revoked)

    def is_active(self, device_pk: bytes) -> bool:
        """Tell whether the device speaks for the identity (its certificate may still have expired)."""
        return device_pk in self._devices

    def append(self, raw: bytes) -> None:
        """Verify one more entry and add it; on any error the log stays as it was.

        Raises:
            FormatError, SignatureError, CertificateError: the entry is not acceptable in itself.
            ForkError: another entry than the known one with its number.
            LogError: it does not follow the last entry, or may not do what it does.

        """
        entry = parse_entry(raw, self._network_id)
        seq, head_hash = self.head
        if entry.position.seq <= seq:
            self._refuse_known_place(entry)
        if entry.position.seq > seq + 1:
            raise LogError("entries are missing")
        if entry.position.prev != head_hash:
            raise LogError("the entry follows another history")
        by_recovery = entry.action in RECOVERY_ACTIONS
        if entry.statement.signer != (self._recovery_pk if by_recovery else self._identity_pk):
            raise LogError("signed by a key that may not do this")
        self._apply(entry)
        self._entries.append(entry.statement.raw)
        self._hashes.append(entry.statement.hash)

    def extends(self, other: "IdentityLog") -> bool:
        """Tell whether this log is ``other``, or ``other`` with more entries."""
        return self._entries[: len(other._entries)] == other._entries

    def check_head(self, seen: tuple[int, bytes]) -> None:
        """Return if this log contains the head that was seen before.

        Args:
            seen: number and hash of an earlier :attr:`head` of the same identity.

        Raises:
            RollbackError: this log is older.
            LogError: another entry has that number.

        """
        seq, entry_hash = seen
        if seq >= len(self._entries):
            raise RollbackError("the identity log is older than one that was seen before")
        if self._hashes[seq] != entry_hash:
            raise LogError("the identity log contradicts one that was seen before")

    def prefer(self, other: "IdentityLog") -> "IdentityLog":
        """Return the log to follow from now on.

        The longer one if one extends the other. After a split, the one whose first different entry is
        signed by the recovery key, since that is how a thief of the root seed is shut out; but only if
        the recovery key signed nothing in the other branch, since that may have replaced a stolen kit.

        Raises:
            LogError: the logs of two identities.
            ForkError: a split that the recovery key does not decide.

        """
        if self.identity_id != other.identity_id:
            raise LogError("the log of another identity")
        if self.extends(other):
            return self
        if other.extends(self):
            return other
        pairs = enumerate(zip(self._entries, other._entries, strict=False))
        split = next(seq for seq, (ours, theirs) in pairs if ours != theirs)
        ours_decides, theirs_decides = self._overrides(other, split), other._overrides(self, split)
        if ours_decides == theirs_decides:
            raise ForkError(self._entries[split], other._entries[split])
        return self if ours_decides else other

    def check_certificate(self, certificate: DeviceCertificate, now: int) -> None:
        """Return if a verified certificate is in force by this log.

        Args:
            certificate: from :func:`~sovereign_crypto.certificate.parse_certificate`.
            now: Unix seconds.

        Raises:
            CertificateError: with the reason.

        """
        self._check_certificate_owner(certificate)
        current = self._devices.get(certificate.device_pk)
        if current is None:
            raise CertificateError(CertificateFault.NOT_IN_LOG)
        if current.raw != certificate.raw:
            newer = certificate.serial > current.serial
            raise CertificateError(CertificateFault.NOT_IN_LOG if newer else CertificateFault.SUPERSEDED)
        check_validity(certificate, now)

    def _overrides(self, other: "IdentityLog", split: int) -> bool:
        theirs = other._entries[split:]
        return self._by_recovery(self._entries[split]) and not any(map(self._by_recovery, theirs))

    def _by_recovery(self, raw: bytes) -> bool:
        return parse_entry(raw, self._network_id).action in RECOVERY_ACTIONS

    def _check_certificate_owner(self, certificate: DeviceCertificate) -> None:
        if certificate.identity_id != self.identity_id:
            raise CertificateError(CertificateFault.OTHER_IDENTITY)
        if certificate.device_pk in self._revoked:
            raise CertificateError(CertificateFault.REVOKED)
        if certificate.identity_pk != self._identity_pk:
            raise CertificateError(CertificateFault.OLD_IDENTITY_KEY)

    def _refuse_known_place(self, entry: Entry) -> None:
        known = self._entries[entry.position.seq]
        if known == entry.statement.raw:
            raise LogError("the entry is already in the log")
        # Only a key that spoke for this identity can incriminate; a stranger's entry is just noise.
        if entry.statement.signer not in self._authorities:
            raise LogError("signed by a key that may not do this")
        raise ForkError(known, entry.statement.raw)

    def _apply(self, entry: Entry) -> None:
        handlers = {
            Action.ADD_DEVICE: self._add_device,
            Action.REVOKE_DEVICE: self._revoke_device,
            Action.PUK_ROTATE: self._rotate_user_key,
            Action.ROOT_ROTATE: self._rotate_root,
            Action.RECOVERY_CHANGE: self._change_recovery,
        }
        handlers[entry.action](entry)

    # Each handler raises before it changes anything, so a refused entry leaves no trace.

    def _add_device(self, entry: Entry) -> None:
        certificate = parse_certificate(entry.args["certificate"], self._network_id)
        self._check_certificate_owner(certificate)
        if certificate.serial <= self._last_serial:
            raise LogError("certificate serial numbers go up")
        if certificate.device_pk not in self._devices and len(self._devices) >= MAX_ACTIVE_DEVICES:
            raise LogError("too many active devices")
        self._devices[certificate.device_pk] = certificate
        self._last_serial = certificate.serial

    def _revoke_device(self, entry: Entry) -> None:
        device_pk = entry.args["device_key"]
        if device_pk not in self._devices:
            raise LogError("revokes a device that is not active")
        del self._devices[device_pk]
        self._revoked[device_pk] = entry.args["last_accepted"]

    def _rotate_user_key(self, entry: Entry) -> None:
        if entry.args["generation"] != self.user_generation + 1:
            raise LogError("user key generations go up by one")
        self._user_pks.append(entry.args["user_key"])

    def _rotate_root(self, entry: Entry) -> None:
        new_identity_pk = entry.args["identity_key"]
        self._check_proof(entry, new_identity_pk)
        if new_identity_pk in self._authorities:
            raise LogError("a key that was in force before does not come back")
        self._identity_pk = new_identity_pk
        self._authorities.add(new_identity_pk)
        self._generation += 1
        # A thief of the old root may have added devices, so none is kept silently.
        self._devices.clear()

    def _change_recovery(self, entry: Entry) -> None:
        new_recovery_pk = entry.args["recovery_key"]
        self._check_proof(entry, new_recovery_pk)
        if new_recovery_pk in self._authorities:
            raise LogError("a key that was in force before does not come back")
        self._recovery_pk = new_recovery_pk
        self._authorities.add(new_recovery_pk)
        self._recovery_enc_pk = entry.args["recovery_encryption_key"]

    def _check_proof(self, entry: Entry, new_public: bytes) -> None:
        message = rotation_proof_input(self.identity_id, entry.position, new_public)
        try:
            verify(new_public, message, entry.args["proof"])
        except SignatureError as error:
            raise LogError("the new key did not sign its own rotation") from error
