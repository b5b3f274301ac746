"""What can go wrong with a project's stored data, in words for people."""

from __future__ import annotations

import errno

import lmdb
import trio

from sovereign_crypto.errors import CryptoError
from sovereign_node.errors import ExitCode, NodeError

# A wrong place to restore to, rather than a disk that fails.
_UNUSABLE = (
    errno.EEXIST,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ENOENT,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ELOOP,
)


class VaultError(NodeError):
    """Root of the vault's errors."""


class TargetError(Exception):
    """A target refused or could not be reached; adapters raise nothing else.

    Args:
        target: the target's name.
        reason: why, for people.
        full: no space or quota is left, so that another target should take the rest.
    """

    def __init__(self, target: str, reason: str, *, full: bool = False) -> None:
        super().__init__(f"{target}: {reason}")
        self.target = target
        self.reason = reason
        self.full = full


class HeadConflictError(TargetError):
    """The target holds another head than the one we wanted to replace."""

    def __init__(self, target: str) -> None:
        super().__init__(target, "holds another head than expected")


class NoTargetError(VaultError):
    """No target answered, or none took what had to be stored."""

    def __init__(self, failures: list[TargetError]) -> None:
        reasons = "; ".join(sorted({str(failure) for failure in failures})) or "the project has no target"
        full = bool(failures) and all(failure.full for failure in failures)
        super().__init__(
            "storage_full" if full else "no_target",
            f"no target can take the data ({reasons})",
            "open a larger contract or add a provider" if full else "check the connection to your providers",
            ExitCode.STORAGE_FULL if full else ExitCode.UNREACHABLE,
        )
        self.failures = failures


class RollbackError(VaultError):
    """Every target shows an older head than one that this device has seen.

    Args:
        device: 32 bytes, the writer.
        instance: 8 bytes, its writer instance.
        seen: highest sequence that was seen.
        found: highest sequence that was offered; 0 if none.
    """

    def __init__(self, device: bytes, instance: bytes, seen: int, found: int) -> None:
        super().__init__(
            "head_rollback",
            f"the providers show state {found} of device {device.hex()[:16]}, but {seen} was seen before",
            "a provider restored an old copy or hides data; if you replaced your providers, accept the older state",
            ExitCode.DAMAGE_FOUND,
        )
        self.device = device
        self.instance = instance
        self.seen = seen
        self.found = found


class ForkError(VaultError):
    """Two different heads with one sequence: a copied device, or a provider that shows different pasts.

    Args:
        device: 32 bytes, the writer.
        first: one signed head, evidence; empty where only its hash was kept.
        second: the other signed head.
    """

    def __init__(self, device: bytes, first: bytes, second: bytes) -> None:
        super().__init__(
            "head_fork",
            f"device {device.hex()[:16]} has two different states with one number",
            "if a copy of that device's data directory is running somewhere, stop it",
            ExitCode.DAMAGE_FOUND,
        )
        self.device = device
        self.first = first
        self.second = second


class OvertakenError(VaultError):
    """Another device has published what this operation would contradict; begun anew, it takes that into account."""

    def __init__(self) -> None:
        super().__init__(
            "project_busy",
            "other devices kept changing the project meanwhile",
            "nothing is lost; run the same command again",
        )


class MissingBlobError(VaultError):
    """A blob that is referred to is not in the index.

    Args:
        blob_id: 32 bytes.
    """

    def __init__(self, blob_id: bytes) -> None:
        super().__init__(
            "blob_missing",
            f"blob {blob_id.hex()[:16]} is in no index",
            "run `sovereign repair index`, then `sovereign verify`",
            ExitCode.DAMAGE_FOUND,
        )
        self.blob_id = blob_id


class ChunkUnavailableError(VaultError):
    """No target gave a good copy of a chunk.

    Args:
        chunk_id: 32 bytes.
        reasons: what each target answered.
    """

    def __init__(self, chunk_id: bytes, reasons: list[str]) -> None:
        super().__init__(
            "chunk_unavailable",
            f"no good copy of chunk {chunk_id.hex()[:16]} ({'; '.join(reasons) or 'no target'})",
            "try again when more providers are online, or run `sovereign verify`",
            ExitCode.UNREACHABLE,
        )
        self.chunk_id = chunk_id
        self.reasons = reasons


def single_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the one error that a group stands for: the first that is no cancellation, else the group."""
    leaves: list[BaseException] = []
    pending: list[BaseException] = [group]
    while pending:
        error = pending.pop()
        if isinstance(error, BaseExceptionGroup):
            pending.extend(reversed(error.exceptions))
        else:
            leaves.append(error)
    real = [error for error in leaves if not isinstance(error, trio.Cancelled)]
    if len(real) != len(leaves) or not real:
        return group
    return real[0] if len({type(error) for error in real}) == 1 else group


def for_people(error: BaseException) -> BaseException:
    """Return an error of the formats or of this device's disk as one that says what to do; others as they are."""
    if isinstance(error, OSError) and error.errno in _UNUSABLE:
        return VaultError(
            "path_not_usable",
            f"{error.filename or 'a path'} can't be used: {error.strerror}",
            "choose another place, or change its permissions",
        )
    if isinstance(error, lmdb.Error | OSError):
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or isinstance(error, lmdb.DiskError)
        return VaultError(
            "disk_full" if full else "disk_failed",
            f"this device's disk failed: {error}",
            "free some space, then run the same command again",
            ExitCode.STORAGE_FULL if full else ExitCode.ERROR,
        )
    if not isinstance(error, CryptoError):
        return error
    return VaultError(
        "stored_data_damaged",
        f"stored data breaks its format: {error}",
        "run `sovereign verify --read-data`",
        ExitCode.DAMAGE_FOUND,
    )
