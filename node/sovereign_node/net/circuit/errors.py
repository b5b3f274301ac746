"""Why there is no circuit."""

from sovereign_node.net.errors import NetError
from sovereign_protocols.circuit.messages import Status


class CircuitError(NetError, OSError):
    """A relay or the peer behind it did not do what was asked.

    Args:
        relay_id: base58 text of the relay's peer id.
        reason: words for logs.
        status: what the relay answered, None if it did not.
    """

    def __init__(self, relay_id: str, reason: str, status: Status | None = None) -> None:
        self.relay_id = relay_id
        self.reason = reason
        self.status = status
        super().__init__(f"no circuit through {relay_id}: {reason}")


def refused(relay_id: str, status: Status | None) -> CircuitError:
    """Make the error for an answer that is not OK."""
    words = status.name.lower().replace("_", " ") if status is not None else "no status"
    return CircuitError(relay_id, f"the relay answers: {words}", status)
