"""What a server does about one session, behind the interface that its shell calls."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from sovereign_protocols.chunk.messages import Get, Hello, Message, Put
from sovereign_protocols.errors import ErrorCode
from sovereign_protocols.framing import Payload

PutItem = tuple[Put, Payload]
Answer = tuple[Message, Payload]


@dataclass(frozen=True, slots=True)
class Reading:
    """What one look into the store gave for the first of the chunks that were asked for.

    Args:
        chunks: (id, bytes, or None if it is not there), in any order.
        next_bytes: size of the chunk that comes next and did not fit; 0 if all were looked at.
    """

    chunks: list[tuple[bytes, bytes | memoryview | None]]
    next_bytes: int = 0


class Handler(Protocol):
    """What a server does about one session; made anew for each stream."""

    async def hello(self, hello: Hello) -> int:
        """Judge a hello and return how many entries of the identity log are known (RemoteError: refused)."""
        ...

    async def log(self, entries: Sequence[bytes]) -> int:
        """Judge the entries that were missing and return the new length of the log (RemoteError: refused)."""
        ...

    async def verify(self, items: Sequence[PutItem]) -> list[bool]:
        """Tell for each put whether its bytes match its id."""
        ...

    async def store(self, items: Sequence[PutItem]) -> list[ErrorCode | None]:
        """Store durably and tell for each put what was wrong."""
        ...

    async def pace(self) -> None:
        """Wait while this client asks more often than it may; called before each request that is not a put."""
        ...

    async def read(self, get: Get, chunk_ids: Sequence[bytes], limit_bytes: int) -> Reading:
        """Read the first of some chunks, as many as fit into `limit_bytes` together (RemoteError: refused)."""
        ...

    async def request(self, message: Message, payload: Payload) -> list[Answer]:
        """Carry out any other request (RemoteError: refused)."""
        ...

    async def wait_for_room(self, held_bytes: int) -> bool:
        """Wait until this stream, which holds `held_bytes`, may receive more; tell whether that took time."""
        ...
