"""Who may use which contract at a provider, as the chunk service asks it."""

from dataclasses import dataclass
from enum import Enum, Flag, auto
from typing import Protocol

from sovereign_protocols.chunk import limits


class Right(Flag):
    """What a request needs."""

    READ = auto()
    WRITE = auto()
    DELETE = auto()


class ContractState(Enum):
    """How far a contract is in force for storage."""

    ACTIVE = "active"
    UNPAID = "unpaid"
    READ_ONLY = "read only"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class ContractGrant:
    """What the owner of a contract may use.

    Args:
        quota_bytes: sealed bytes that may be stored.
        state: of the contract.
        grace_s: how long a chunk deleted by a device stays readable, seconds.
    """

    quota_bytes: int
    state: ContractState = ContractState.ACTIVE
    grace_s: int = limits.DEFAULT_GRACE_S


class Authorizer(Protocol):
    """Knows the contracts of this provider. Called from several threads."""

    def authorize(
        self, identity_id: bytes, device_pk: bytes, contract_id: bytes, right: Right
    ) -> ContractGrant | None:
        """Return what the caller may use, or None if the contract is unknown or not the caller's.

        Asked before every batch, so that a contract that ends stops an upload under way.
        """
        ...

    def is_customer(self, identity_id: bytes) -> bool:
        """Tell whether an identity has any contract here; others are not worth a signature check."""
        ...
