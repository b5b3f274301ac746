"""How much a provider may meter at most: what this device moved, and what other own devices signed that they moved.

A provider hands on the transfer receipts of the other devices of the identity. It cannot invent one, and an older
one only makes its own bound smaller; so the devices need no way to each other. What no device has signed yet is
waited for, because a device may be off line; after three days it is disputed. A device that was lost signs nothing
any more: what it left unsigned is accepted within a day after it was revoked, once.

Source: protocols/specs/settle.md, "Several devices".
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from sovereign_crypto.statement import NETWORK_ID_MAIN
from sovereign_node.services.money.book import MoneyBook
from sovereign_node.services.money.tally import MIN_CHUNK_BYTES, Tally
from sovereign_node.store import State
from sovereign_protocols.settle.bodies import TransferReceipt
from sovereign_protocols.settle.messages import MAX_DEVICES
from sovereign_protocols.settle.signed import Signed, parse_signed

#: How long the receipt of a device that is off line is waited for.
WAIT_S: Final = 3 * 86_400
#: How long after a device was revoked the bytes that it never signed are accepted.
FORGIVE_S: Final = 86_400
UNBOUNDED: Final = 2**62


class OverMeteredError(Exception):
    """A provider's figures are above what this identity's devices counted themselves.

    Args:
        what: which figure.
        may_follow: whether another own device may still sign what is missing.
    """

    def __init__(self, what: str, *, may_follow: bool = False) -> None:
        super().__init__(what)
        self.what = what
        self.may_follow = may_follow


@dataclass(frozen=True)
class OtherDevices:
    """The other devices of this identity, by public key.

    Args:
        active: may store under the same contracts.
        revoked: may have stored under them.
    """

    active: frozenset[bytes] = frozenset()
    revoked: frozenset[bytes] = frozenset()


class Bounds:
    """Bounds the figures of providers. All methods block.

    Args:
        state: this node's state.
        book: of the customer's side.
        clock: wall time.
        tally: what this device moved itself, by contract.
        others: the other devices of the identity, now.
        network_id: 32 bytes.
    """

    def __init__(
        self,
        state: State,
        book: MoneyBook,
        clock: Callable[[], int],
        tally: Callable[[bytes], Tally],
        others: Callable[[], OtherDevices],
        network_id: bytes = NETWORK_ID_MAIN,
    ) -> None:
        self._state = state
        self._book = book
        self._clock = clock
        self._tally = tally
        self._others = others
        self._network_id = network_id

    @property
    def is_shared(self) -> bool:
        """Whether other devices may have stored under the same contracts."""
        others = self._others()
        return bool(others.active or others.revoked)

    def take(self, contract_id: bytes, receipts: Sequence[Signed[TransferReceipt]]) -> None:
        """Keep what other own devices signed; receipts of anybody else are left out."""
        others = self._others()
        with self._state.transaction():
            # The day in which a lost device's bytes are accepted begins now, not when a provider claims some.
            self._is_forgiving(contract_id)
            for receipt in receipts:
                body = receipt.body
                is_own = receipt.signer == body.device and body.device in others.active | others.revoked
                if is_own and body.contract == contract_id:
                    self._book.add(receipt, contract_id, body.bytes_in + body.bytes_out, self._clock())

    def of(self, contract_id: bytes) -> Tally:
        """Give the most that all devices together can have moved."""
        found = self._tally(contract_id)
        if not self.is_shared:
            return found
        agreement = self._book.agreement(contract_id)
        if agreement is not None and agreement.terms.is_free:
            # Nothing is owed for whatever own devices store, so they do not sign for each other.
            return replace(found, sent_bytes=UNBOUNDED, sent_chunks=UNBOUNDED, received_bytes=UNBOUNDED)
        raws = self._book.transfers(contract_id, MAX_DEVICES)
        newest = [parse_signed(raw, TransferReceipt, self._network_id).body for raw in raws]
        # What was forgiven, and what each of the others signed last; chunks are at least of the smallest size.
        forgiven = self._forgiven(contract_id)
        sent = [body.bytes_in for body in newest] + [forgiven[0]]
        received = [body.bytes_out for body in newest] + [forgiven[1]]
        return replace(
            found,
            sent_bytes=found.sent_bytes + sum(sent),
            sent_chunks=found.sent_chunks + sum(size // MIN_CHUNK_BYTES for size in sent),
            received_bytes=found.received_bytes + sum(received),
        )

    def check_stored(self, contract_id: bytes, what: str, *, stored_bytes: int, stored_chunks: int) -> None:
        """Refuse more bytes or chunks than all devices together can have stored.

        Raises:
            OverMeteredError: they cannot be true.
        """
        bound = self.of(contract_id)
        chunks = stored_chunks - bound.sent_chunks
        missing = max(stored_bytes - bound.sent_bytes, chunks * MIN_CHUNK_BYTES, 0)
        self._require(contract_id, what, sent=missing)

    def check_moved(self, contract_id: bytes, what: str, *, bytes_in: int, bytes_out: int) -> None:
        """Refuse more moved bytes than all devices together can have moved.

        Raises:
            OverMeteredError: they cannot be true.
        """
        bound = self.of(contract_id)
        sent, received = max(0, bytes_in - bound.sent_bytes), max(0, bytes_out - bound.received_bytes)
        self._require(contract_id, what, sent=sent, received=received)

    def _require(self, contract_id: bytes, what: str, *, sent: int, received: int = 0) -> None:
        """Pass if nothing is missing, or if it is accepted for a device that was just revoked."""
        if not sent and not received:
            return
        if self._is_forgiving(contract_id):
            before = self._forgiven(contract_id)
            after = [before[0] + sent, before[1] + received]
            self._state.meta.set(_forgiven_key(contract_id), json.dumps(after))
            return
        raise OverMeteredError(what, may_follow=bool(self._others().active) and not self._has_waited(contract_id))

    # --- waiting, and devices that are gone -------------------------------------------------------------------

    def note_missing(self, contract_id: bytes) -> None:
        """Remember since when a receipt of another device is missing."""
        if self._state.meta.get(_missing_key(contract_id)) is None:
            self._state.meta.set(_missing_key(contract_id), str(self._clock()))

    def note_complete(self, contract_id: bytes) -> None:
        """Forget it: both sides agree."""
        if self._state.meta.get(_missing_key(contract_id)) is not None:
            self._state.meta.delete(_missing_key(contract_id))

    def _has_waited(self, contract_id: bytes) -> bool:
        since = self._state.meta.get(_missing_key(contract_id))
        return since is not None and self._clock() - int(since) >= WAIT_S

    def _is_forgiving(self, contract_id: bytes) -> bool:
        """Tell whether a device was revoked within the last day, as this contract's figures learn it."""
        revoked = sorted(device.hex() for device in self._others().revoked)
        kept = json.loads(self._state.meta.get(_revoked_key(contract_id)) or "[0, []]")
        if set(revoked) - set(kept[1]):
            kept = [self._clock(), revoked]
            self._state.meta.set(_revoked_key(contract_id), json.dumps(kept))
        return bool(kept[1]) and self._clock() - kept[0] < FORGIVE_S

    def _forgiven(self, contract_id: bytes) -> tuple[int, int]:
        sent, received = json.loads(self._state.meta.get(_forgiven_key(contract_id)) or "[0, 0]")
        return sent, received


def _missing_key(contract_id: bytes) -> str:
    return f"missing_since:{contract_id.hex()}"


def _revoked_key(contract_id: bytes) -> str:
    return f"revoked_devices:{contract_id.hex()}"


def _forgiven_key(contract_id: bytes) -> str:
    return f"forgiven:{contract_id.hex()}"
