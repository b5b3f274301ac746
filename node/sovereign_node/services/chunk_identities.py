"""The newest identity log that a provider has ever seen of each customer; it never goes back."""

import threading
from collections.abc import Sequence
from typing import Final

from sovereign_crypto.errors import CryptoError
from sovereign_crypto.identity import ForkError, IdentityLog
from sovereign_crypto.statement import NETWORK_ID_MAIN
from sovereign_node.chunkstore import ChunkStore
from sovereign_protocols.errors import ErrorCode, RemoteError

_MAX_CACHED: Final = 1_024


class IdentityDirectory:
    """Keeps verified logs in memory and their entries in the chunk store. Blocks; any thread may call.

    Args:
        store: where entries are kept.
        network_id: 32 bytes.
    """

    def __init__(self, store: ChunkStore, network_id: bytes = NETWORK_ID_MAIN) -> None:
        self._store = store
        self._network_id = network_id
        self._lock = threading.Lock()
        self._logs: dict[bytes, IdentityLog] = {}

    def newest(self, identity_id: bytes) -> IdentityLog | None:
        """Return the newest log known of an identity."""
        with self._lock:
            log = self._logs.get(identity_id) or self._load(identity_id)
            if log is not None:
                self._remember(log)
            return log

    def cached(self, identity_id: bytes) -> IdentityLog | None:
        """Return the newest log of an identity if it is in memory; never blocks."""
        return self._logs.get(identity_id)

    def learn(self, identity_id: bytes, entries: Sequence[bytes]) -> IdentityLog:
        """Verify a log that a device presents and keep it if it is newer; return the log that counts.

        Raises:
            RemoteError: the log is not valid, of another identity, or contradicts the known one.
        """
        try:
            offered = IdentityLog.verify(entries, network_id=self._network_id, identity_id=identity_id)
            with self._lock:
                known = self._logs.get(identity_id) or self._load(identity_id)
                newest = offered if known is None else known.prefer(offered)
                if newest is offered:
                    self._store.set_identity_log(identity_id, entries, extends=lambda _stored: True)
                self._remember(newest)
                return newest
        except ForkError as error:
            raise RemoteError(ErrorCode.ROLLBACK) from error
        except CryptoError as error:
            raise RemoteError(ErrorCode.IDENTITY) from error

    def _load(self, identity_id: bytes) -> IdentityLog | None:
        entries = self._store.identity_log(identity_id)
        return IdentityLog.verify(entries, network_id=self._network_id) if entries else None

    def _remember(self, log: IdentityLog) -> None:
        self._logs.pop(log.identity_id, None)
        if len(self._logs) >= _MAX_CACHED:
            del self._logs[next(iter(self._logs))]
        self._logs[log.identity_id] = log
