"""Reaching a peer through or with the help of another one: relayed circuits, hole punching, dial-back.

*Relay*: a peer that couples two streams. *Reservation*: its promise to accept circuits for a peer. *Circuit*: the
coupled streams, a byte pipe on which the two ends do Noise and Yamux. *Hop* is what is said to a relay, *stop* what
the relay says to the destination.
"""
