"""How many connections a node has at most, those that are being made included.

A home router keeps a row for every connection, also for a dial that nobody answers, and suffers when there are
many. So dials wait for a place, newcomers without one are turned away, and what is open is kept below the total by
as much as is being made at a time; see `crowd` for who has to go.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio


class Places:
    """Counts.

    Args:
        total: connections, dials and handshakes together.
        dials: of them dials at a time.
        connections: tells how many connections are open.
        handshakes: tells how many newcomers are being let in.
    """

    def __init__(
        self, total: int, dials: int, *, connections: Callable[[], int], handshakes: Callable[[], int]
    ) -> None:
        self.total = total
        self._dials = trio.CapacityLimiter(dials)
        self._connections = connections
        self._handshakes = handshakes
        self._dialling = 0
        self._freed = trio.Event()

    @property
    def taken(self) -> int:
        """How many places are taken."""
        return self._connections() + self._handshakes() + self._dialling

    @property
    def is_full(self) -> bool:
        """Whether nobody else may come."""
        return self.taken >= self.total

    @asynccontextmanager
    async def dial(self) -> AsyncIterator[None]:
        """Hold a place while a connection is being made; waits until there is one."""
        async with self._dials:
            while self.is_full:
                await self._freed.wait()
            self._dialling += 1
            try:
                yield
            finally:
                self._dialling -= 1
                self.note_freed()

    def note_freed(self) -> None:
        """Let those go on who wait for a place."""
        self._freed.set()
        self._freed = trio.Event()
