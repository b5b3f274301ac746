"""The only door to libp2p: hosts, connections and streams between peers.

A *peer* is a libp2p identity, named by its base58 text ("12D3Koo..."). A *network* is one running host of
ours: it listens, dials, and hands out *peer streams*, which are plain trio half-closeable streams that know
the authenticated peer at the other end. A *pipe* is a byte stream below the encryption (a TCP socket, a relay
circuit); every pipe gets the same upgrade, Noise and then Yamux. A *path* says what kind of pipe it was.

Nothing outside this package imports libp2p. Each defect of the pinned release that reaches us has one module
here whose docstring names it, and one regression test which shows it on a stock host and not on ours.
"""
