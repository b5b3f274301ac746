"""Noticing that the machine slept, or is in another network now.

Both leave connections behind that look open and lead nowhere; without a hint it takes a connection's own checks
half a minute to find out.
"""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog
import trio

from sovereign_node.net.addresses import expand_wildcard

if TYPE_CHECKING:
    from trio_typing import TaskStatus

_log = structlog.get_logger(__name__)

POLL_S = 5.0
# A busy machine wakes us late by a second or two; more means that it stood still or that somebody set its clock.
SLEPT_S = 10.0


def interface_hosts() -> frozenset[str]:
    """List the IP addresses of this machine, loopback only when there is nothing else."""
    return frozenset([*expand_wildcard("/ip4/0.0.0.0/tcp/0"), *expand_wildcard("/ip6/::/tcp/0")])


class Surroundings:
    """Polls addresses and clocks.

    Args:
        on_change: called with "slept" or "moved"; must not block.
        hosts: lists this machine's addresses.
        wall_s: wall time, seconds; goes on while the machine sleeps, unlike trio's clock on some systems.
    """

    def __init__(
        self,
        on_change: Callable[[str], None],
        *,
        hosts: Callable[[], frozenset[str]] = interface_hosts,
        wall_s: Callable[[], float] = time.time,
    ) -> None:
        self._on_change = on_change
        self._hosts = hosts
        self._wall_s = wall_s

    async def run(self, task_status: "TaskStatus[None]" = trio.TASK_STATUS_IGNORED) -> None:
        """Watch until cancelled."""
        hosts = self._hosts()
        task_status.started()
        while True:
            before_s = self._wall_s()
            await trio.sleep(POLL_S)
            if self._wall_s() - before_s > POLL_S + SLEPT_S:
                self._tell("slept")
            present = self._hosts()
            if present != hosts:
                hosts = present
                self._tell("moved")

    def _tell(self, what: str) -> None:
        _log.info("surroundings_changed", what=what)
        self._on_change(what)
