"""Every interval, deadline and cap of the DHT that a test or an operator may want to change."""

from dataclasses import dataclass, field

from sovereign_protocols.kad.lookup import LookupLimits
from sovereign_protocols.kad.table import BUCKET_SIZE


@dataclass(frozen=True, slots=True)
class KademliaSettings:
    """How the DHT of one node behaves; all times in seconds.

    Attributes:
        lookup: how wide and how patient a lookup is.
        replicas: how many nearest peers get a record or an announcement.
        read_width: how many nearest peers must have answered before a read that found something ends.
        call_timeout_s: for dialling a peer, asking and its answer together.
        idle_timeout_s: how long a request on an inbound stream may take to arrive.
        streams_per_peer: inbound streams that one peer may hold.
        streams_total: inbound streams of all peers.
        limit_subnets: whether the routing table limits contacts per public /24 and /48.
        republish_s: how often values get a new sequence number and announcements are repeated.
        refresh_s: how often every region of the routing table is walked.
        check_s: contacts silent for this long are asked whether they are there.
        tick_s: how often upkeep looks for work.
    """

    lookup: LookupLimits = field(default_factory=LookupLimits)
    replicas: int = BUCKET_SIZE
    read_width: int = 8
    call_timeout_s: float = 2.5
    idle_timeout_s: float = 10.0
    streams_per_peer: int = 8
    streams_total: int = 256
    limit_subnets: bool = True
    republish_s: float = 6 * 3600.0
    refresh_s: float = 600.0
    check_s: float = 300.0
    tick_s: float = 15.0
