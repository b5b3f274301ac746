"""The DHT of a running node: ``sovereign_protocols.kad`` over a ``Network``.

*Caller*: asks one peer, with a deadline, and remembers who does not answer (*suspects*).
*Walk*: drives one lookup. *Upkeep*: keeps the routing table alive and repeats what this node publishes.
``Kademlia`` puts them together and is all that other packages use.
"""

from sovereign_node.net.kad.caller import DhtNetwork, PeerAddresses
from sovereign_node.net.kad.kademlia import Kademlia
from sovereign_node.net.kad.settings import KademliaSettings

__all__ = ["DhtNetwork", "Kademlia", "KademliaSettings", "PeerAddresses"]
