"""Yamux 1.0.0: many streams over one ordered, reliable byte connection, without input or output.

A *frame* is a 12-byte header, for DATA followed by that many bytes. A *stream* is one bidirectional byte
sequence; the side that dialled numbers its streams oddly, the other evenly. *Credit* is what the receiver has
allowed the sender to send and has not yet received; a *window* is the credit that it keeps topped up. Each
stream starts with 256 KiB both ways. A *batch* is a run of whole frames, cut so that it fills the records of the
encryption below exactly.

The connection (`core.Yamux`) takes received bytes and gives events, takes parts to send and gives batches. It
never awaits, reads a clock or draws randomness. Spec: `protocols/specs/yamux.md`.
"""
