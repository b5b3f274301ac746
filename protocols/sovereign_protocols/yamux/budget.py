"""How much memory receive windows may promise, over all streams of a peer and of a node.

Yamux gives every stream 256 KiB of credit without asking, so that base cannot be refused without refusing
streams, and refusing streams would let four peers close a node to everyone. The budget therefore has two parts:
windows grow beyond their base only as far as three quarters of the limit allow, all bases included; and what is
really buffered may never pass the limit itself, which the connection enforces by resetting its largest stream.
"""

GROWTH_SHARE = 0.75


class WindowBudget:
    """A limit in bytes, within an optional wider one.

    Args:
        limit_bytes: what may be buffered.
        parent: the node's budget, for that of a peer.
    """

    def __init__(self, limit_bytes: int, parent: "WindowBudget | None" = None) -> None:
        self.limit_bytes = limit_bytes
        self.parent = parent
        self.promised_bytes = 0
        self.buffered_bytes = 0
        self.holders = 0

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
        held = self.buffered_bytes
        self.buffered_bytes = held + size_bytes
        if self.parent is not None:
            self.parent.holders += (self.buffered_bytes > 0) - (held > 0)
            self.parent.buffer(size_bytes)

    def detach(self) -> None:
        """Leave the parent: what is still held here is about to be read or dropped, and no more will come."""
        if self.parent is not None:
            self.parent.holders -= self.buffered_bytes > 0
            self.parent.buffer(-self.buffered_bytes)
            self.parent.release(self.promised_bytes)
            self.parent = None

    def is_over(self) -> bool:
        """Say whether this holder must drop something: over its limit, or over its share of a full parent's."""
        if self.buffered_bytes > self.limit_bytes:
            return True
        parent = self.parent
        if parent is None or parent.buffered_bytes <= parent.limit_bytes:
            return False
        return self.buffered_bytes * parent.holders >= parent.buffered_bytes
