"""The client's end of the chunk protocol.

`core` keeps requests and windows; `exchange` carries requests and answers, `download` chunks on their way to one
caller, `shell` is the client that programs use.
"""

from sovereign_protocols.chunk.client.download.shell import Download
from sovereign_protocols.chunk.client.records import Credentials, RecoveryRecord, Usage
from sovereign_protocols.chunk.client.shell import ChunkClient, open_chunk_client

__all__ = ["ChunkClient", "Credentials", "Download", "RecoveryRecord", "Usage", "open_chunk_client"]
