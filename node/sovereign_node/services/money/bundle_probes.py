"""Probe receipts in an evidence bundle: windows in which the provider answered, by a signature of the other side.

A receipt that the provider signed shows that it was there; one that an observer signed is the observer's own word
for it. A window without a receipt proves nothing: nobody signs that no answer came.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from sovereign_node.store import State
from sovereign_node.store.contracts import Contract
from sovereign_protocols.errors import ProtocolError
from sovereign_protocols.market.terms import ContractTerms
from sovereign_protocols.probe.bodies import ProbeReceipt
from sovereign_protocols.probe.windows import whole_windows, window_of
from sovereign_protocols.settle.bodies import PeriodStatement
from sovereign_protocols.settle.signed import parse_signed

#: Told who did what, and by which paper.
Accuse = Callable[[str, str, bytes], None]


def export_probes(state: State, contract: Contract, at: int) -> list[str]:
    """Collect the receipts of the provider's good windows in the time of a contract. Blocks."""
    first, end = window_of(contract.started_at), window_of(min(at, contract.ends_at)) + 1
    return [raw.hex() for raw in state.uptime.receipts(contract.provider_device, first, end)]


class ProbeJudge:
    """Checks the probe receipts of a bundle.

    Args:
        provider: key of the device that must have answered, 32 bytes.
        revisions: all terms with both signatures; only observers that they name count.
        network_id: 32 bytes.
        accuse: told what is wrong.
    """

    def __init__(
        self, provider: bytes, revisions: Iterable[ContractTerms], network_id: bytes, accuse: Accuse
    ) -> None:
        self._provider = provider
        self._observers = {device for terms in revisions for device in terms.observers}
        self._network_id = network_id
        self._accuse = accuse
        self.papers = 0
        self.windows: set[int] = set()

    def read(self, raws: Iterable[bytes]) -> None:
        """Check every receipt; those of observers that the terms do not name count for nothing."""
        for raw in raws:
            self.papers += 1
            try:
                signed = parse_signed(raw, ProbeReceipt, self._network_id)
            except ProtocolError:
                self._accuse("bundle", "a probe receipt cannot be verified", b"")
                continue
            body = signed.body
            if body.provider != self._provider or signed.signer not in (self._provider, body.observer):
                self._accuse("bundle", "a probe receipt of another party", signed.statement_hash)
            elif body.observer in self._observers:
                self.windows.add(body.window)

    def figures(self, statements: Iterable[PeriodStatement]) -> dict[str, Any]:
        """Return how many windows are proven, and in which periods more than the statement counts as good."""
        missed = [body.period for body in statements if self._within(body) > body.windows_good]
        return {"windows_proven": len(self.windows), "periods_with_uncounted_windows": sorted(set(missed))}

    def _within(self, body: PeriodStatement) -> int:
        inside = whole_windows(body.from_at, body.until_at)
        return sum(window in inside for window in self.windows)
