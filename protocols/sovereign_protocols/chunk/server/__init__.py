"""The server's end of the chunk protocol: `core` decides what may come, `handler` is what a node must provide,
`shell` moves bytes and batches.
"""

from sovereign_protocols.chunk.server.handler import Answer, Handler, PutItem, Reading
from sovereign_protocols.chunk.server.shell import serve

__all__ = ["Answer", "Handler", "PutItem", "Reading", "serve"]
