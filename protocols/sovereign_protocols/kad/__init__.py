"""Kademlia without I/O: how nodes find each other, on the messages of the libp2p DHT.

Nouns of this package:

* *kad id*: SHA-256 of a key or of the bytes of a peer id, read as an integer; distance is XOR.
* *contact*: a peer id (38 bytes) with the addresses under which it may answer.
* *routing table*: contacts that did answer, in one bucket per shared prefix length.
* *lookup*: the walk towards the contacts nearest to a kad id.
* *record*: a self-signed value under a 32-byte key; *announcement*: "this peer provides this key".

Nothing here reads a clock or draws randomness: every call takes ``now``. The spec is
``protocols/specs/kad.md``; the trio side is ``shell.py`` and ``sovereign_node.net.kademlia``.
"""

PROTOCOL_ID = "/sovereign/kad/1.0.0"
