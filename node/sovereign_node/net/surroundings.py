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
from sovereign_node.net.metered import default_route

if TYPE_CHECKING:
    from trio_typing import TaskStatus

_log = structlog.get_logger(__name__)

# A laptop that wakes has its connections back within ten seconds: this, the check of those that it had, a dial.
POLL_S = 2.0
# A busy machine wakes us late by a second or two; more means that it stood still or that somebody set its clock.
SLEPT_S = 10.0


def network_marks() -> frozenset[str]:
    """List what another network would change: IP addresses of this machine, and the router where it is known.

    Every other home network has the same private addresses.
    """
    hosts = [*expand_wildcard("/ip4/0.0.0.0/tcp/0"), *expand_wildcard("/ip6/::/tcp/0")]
    return frozenset([*hosts, "via " + " ".join(default_route())])


class Surroundings:
    """Polls addresses and clocks.

    Args:
        on_change: called with "slept" or "moved"; must not block.
        marks: lists what tells this network from another.
        wall_s: wall time, seconds; goes on while the machine sleeps, unlike trio's clock on some systems.
    """

    def __init__(
        self,
        on_change: Callable[[str], None],
        *,
        marks: Callable[[], frozenset[str]] = network_marks,
        wall_s: Callable[[], float] = time.time,
    ) -> None:
        self._on_change = on_change
        self._marks = marks
        self._wall_s = wall_s

    async def run(self, task_status: "TaskStatus[None]" = trio.TASK_STATUS_IGNORED) -> None:
        """Watch until cancelled."""
        known = self._marks()
        task_status.started()
        while True:
            before_s = self._wall_s()
            await trio.sleep(POLL_S)
            if self._wall_s() - before_s > POLL_S + SLEPT_S:
                self._tell("slept")
            present = self._marks()
            if present != known:
                known = present
                self._tell("moved")

    def _tell(self, what: str) -> None:
        _log.info("surroundings_changed", what=what)
        self._on_change(what)
