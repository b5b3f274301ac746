"""Where things are in the DHT: 32-byte keys, each kind under a domain of its own."""

import hashlib

from sovereign_crypto.domains import Domain

# All providers with something to sell announce themselves here.
OFFERS_RENDEZVOUS = hashlib.sha256(Domain.RENDEZVOUS.prefix + b"offers").digest()


def peer_record_key(device_pk: bytes) -> bytes:
    """Return the key of a device's peer record.

    Args:
        device_pk: Ed25519 key of the device, 32 bytes.
    """
    return hashlib.sha256(Domain.DHT_DEVICE.prefix + device_pk).digest()


def offer_key(device_pk: bytes) -> bytes:
    """Return the key of a provider's offer.

    Args:
        device_pk: Ed25519 key of the provider's device, 32 bytes.
    """
    return hashlib.sha256(Domain.DHT_OFFER.prefix + device_pk).digest()
