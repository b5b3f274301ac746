"""The network that this device belongs to, as 32 bytes bound into every signature."""

from __future__ import annotations

import hashlib

from sovereign_node.config import Config


def network_id_of(config: Config) -> bytes:
    """Return SHA-256 of the network's genesis text."""
    return hashlib.sha256(config.network.encode()).digest()
