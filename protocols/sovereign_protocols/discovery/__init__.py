"""What nodes say about themselves in the DHT, and who believes it.

*Peer record*: a device's addresses, roles and certificate, signed by the device, valid for a day at most.
*Offer*: what a provider sells (``sovereign_protocols.market.offer``), valid for half an hour.
*Rendezvous*: an opaque 32-byte key under which peers announce themselves as providers: of offers, of a project.

The spec is ``protocols/specs/discovery.md``.
"""
