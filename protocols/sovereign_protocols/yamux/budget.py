"""How much memory receive windows may take, over all streams of a peer and of a node.

Yamux gives every stream 256 KiB of credit without asking, so that base cannot be refused without refusing
streams, and refusing streams would let four peers close a node to everyone. The budget therefore has two parts:
windows grow beyond their base only as far as three quarters of the limit allow, all bases included; and what is
really buffered may never pass the limit itself: then streams are reset, those of the peer that holds most first,
whichever peer's bytes went over it.
"""

from collections.abc import Callable

GROWTH_SHARE = 0.75


def _has_nothing() -> bool:
    """Stand in for a holder that has nothing to drop."""
    return False


class WindowBudget:
    """A limit in bytes, within an optional wider one.

    Args:
        limit_bytes: what may be buffered.
        parent: the node's budget, for that of a peer.

    Attributes:
        on_overflow: drops the largest thing that is counted here; gives False if there is nothing to drop.
    """

    def __init__(self, limit_bytes: int, parent: "WindowBudget | None" = None) -> None:
        self.limit_bytes = limit_bytes
        self.parent = parent
        self.promised_bytes = 0
        self.buffered_bytes = 0
        self.on_overflow: Callable[[], bool] = _has_nothing
        self._holders: dict[WindowBudget, None] = {}

    def promise(self, size_bytes: int) -> None:
        """Count credit that a stream has without asking."""
        self.promised_bytes += size_bytes
        if self.parent is not None:
            self.parent.promise(size_bytes)

    def grow(self, size_bytes: int) -> bool:
        """Promise more, if the growth share of every limit allows."""
        if self.promised_bytes + size_bytes > self.limit_bytes * GROWTH_SHARE:
            return False
        if self.parent is not None and not self.parent.grow(size_bytes):
            return False
        self.promised_bytes += size_bytes
        return True

    def release(self, size_bytes: int) -> None:
        """Take a promise back when its stream is gone."""
        self.promised_bytes -= size_bytes
        if self.parent is not None:
            self.parent.release(size_bytes)

    def buffer(self, size_bytes: int) -> None:
        """Count bytes that arrived (positive) or were read or dropped (negative)."""
        self.buffered_bytes += size_bytes
        if self.parent is not None:
            if self.buffered_bytes:
                self.parent._holders[self] = None
            else:
                self.parent._holders.pop(self, None)
            self.parent.buffer(size_bytes)

    @property
    def is_over(self) -> bool:
        """Whether more is buffered than may be, here or in all."""
        return self.buffered_bytes > self.limit_bytes or (self.parent is not None and self.parent.is_over)

    def relieve(self) -> None:
        """Drop until no limit is passed."""
        while self.buffered_bytes > self.limit_bytes and self.on_overflow():
            continue
        if self.parent is not None:
            self.parent._relieve_holders()

    def _relieve_holders(self) -> None:
        while self.buffered_bytes > self.limit_bytes:
            largest = max(self._holders, key=lambda holder: holder.buffered_bytes)
            if not largest.on_overflow():
                break
