"""A NATS server as a relay: the client protocol and the tunnel inside it, both without I/O.

A *relay* is a NATS server that both peers can reach. A *rendezvous* subject is where a peer waits for dialers; it
changes every UTC day and names nobody. An *inbox* is a random subject on which one side of one tunnel receives.
A *tunnel* is an ordered byte stream over two inboxes; Noise and Yamux run on top, so the relay reads nothing.

Source: protocols/specs/relay.md.
"""
