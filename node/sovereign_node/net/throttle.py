"""Limits on bytes per second: of a node, and of single peers, changed while it runs."""

from collections.abc import Iterable, Mapping

from sovereign_node.net.pace import JointPace, Pace
from sovereign_node.net.paths import RELAYED
from sovereign_node.net.pipes import Pipe
from sovereign_node.rates import UNLIMITED, Rates


class _Lane:
    """One direction: the pace of the node, and those of peers."""

    def __init__(self) -> None:
        self._everybody: Pace | None = None
        self._peers: dict[str, Pace] = {}

    def set(self, everybody: int, peers: Mapping[str, int]) -> None:
        # What is owed stays owed when a rate changes.
        self._everybody = _adjusted(self._everybody, everybody)
        adjusted = {peer_id: _adjusted(self._peers.get(peer_id), rate) for peer_id, rate in peers.items()}
        self._peers = {peer_id: pace for peer_id, pace in adjusted.items() if pace is not None}

    def pace_of(self, peer_id: str, *, is_relayed: bool) -> Pace | JointPace | None:
        # The connection to the relay carries a circuit's bytes, and counts them for the node.
        everybody = None if is_relayed else self._everybody
        paces = tuple(pace for pace in (self._peers.get(peer_id), everybody) if pace is not None)
        return JointPace(paces) if len(paces) > 1 else next(iter(paces), None)


class Throttle:
    """The limits in force at a node.

    Args:
        rates: of all connections together.
    """

    def __init__(self, rates: Rates = UNLIMITED) -> None:
        self._upload, self._download = _Lane(), _Lane()
        self.set(rates)

    def set(self, rates: Rates, peers: Mapping[str, Rates] | None = None) -> None:
        """Replace the limits; `apply` brings them to open connections.

        Args:
            rates: of all connections together.
            peers: of single peers besides, by peer id.
        """
        of_peers = peers or {}
        self._upload.set(
            rates.upload_bytes_per_s, {peer_id: item.upload_bytes_per_s for peer_id, item in of_peers.items()}
        )
        self._download.set(
            rates.download_bytes_per_s, {peer_id: item.download_bytes_per_s for peer_id, item in of_peers.items()}
        )

    def apply(self, pipes: Iterable[tuple[str, Pipe]]) -> None:
        """Hold connections to the limits from now on.

        Args:
            pipes: peer id and pipe of each.
        """
        for peer_id, pipe in pipes:
            is_relayed = pipe.path == RELAYED
            pipe.upload = self._upload.pace_of(peer_id, is_relayed=is_relayed)
            pipe.download = self._download.pace_of(peer_id, is_relayed=is_relayed)


def _adjusted(pace: Pace | None, bytes_per_s: int) -> Pace | None:
    if bytes_per_s <= 0:
        return None
    if pace is None:
        return Pace(bytes_per_s)
    pace.bytes_per_s = bytes_per_s
    return pace
