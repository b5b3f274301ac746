"""Wire messages, stored formats and state machines of Sovereign, free of I/O.

Every protocol is a package of three kinds of modules: `messages` (bytes to frozen dataclasses and back),
`core` (a state machine that is fed bytes and answers with events) and `shell` (the only modules that may
import trio: they pump bytes between a stream and a core). The written specifications lie in `protocols/specs`.
"""
