"""The chunk protocol: how a device keeps sealed chunks, heads and its recovery record at another node.

*Client* and *server* are the two ends of one long-lived stream. A session begins with *hello*; after it the client
has many *requests* in work at once, each with a request id. *Credit* bounds the bytes in flight: the server grants
a window for puts, the client one for gets. The written form is protocols/specs/chunk.md.
"""

from typing import Final

PROTOCOL_ID: Final = "/sovereign/chunk/1.0.0"
