"""Short name for the DHT of a node: see ``sovereign_node.net.kad``."""

from sovereign_node.net.kad import DhtNetwork, Kademlia, KademliaSettings, PeerAddresses

__all__ = ["DhtNetwork", "Kademlia", "KademliaSettings", "PeerAddresses"]
