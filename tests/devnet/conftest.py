from devnet_network import network

__all__ = ["network"]
